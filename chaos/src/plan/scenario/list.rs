//! All scenarios, in the order in which they are shown.

use super::{Scenario, readers, rules, stories};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "partition-heals",
        line: "One region is cut off and goes on writing; after it heals all replicas are equal",
        build: stories::partition_heals,
    },
    Scenario {
        name: "region-lost",
        line: "A region burns down; what was acknowledged there lives on elsewhere or in its clients",
        build: stories::region_lost,
    },
    Scenario {
        name: "leader-isolated",
        line: "The control plane's leader is cut off, again and again; no two lead, no change is lost",
        build: stories::leader_isolated,
    },
    Scenario {
        name: "crash-in-commit",
        line: "The power goes inside commits, at every depth; what was acknowledged is there",
        build: stories::crash_in_commit,
    },
    Scenario {
        name: "disk-rolled-back",
        line: "A disk forgets its last seconds; no seq is used twice and the forgotten comes back",
        build: stories::disk_rolled_back,
    },
    Scenario {
        name: "old-backup",
        line: "A backup from before a collection of tombstones is restored; nothing deleted comes back",
        build: stories::old_backup,
    },
    Scenario {
        name: "bits-turned",
        line: "A disk turns bits of values, keys and logs; none is shown, none spreads, and the host gets a new disk",
        build: stories::bits_turned,
    },
    Scenario {
        name: "control-rots",
        line: "A disk turns bits in the control plane's log and votes; no node goes on from less than it had",
        build: rules::control_rots,
    },
    Scenario {
        name: "clock-ahead",
        line: "A node runs ten minutes ahead, a client a day; drift is refused, no change is lost",
        build: stories::clock_ahead,
    },
    Scenario {
        name: "client-offline-week",
        line: "A client writes offline for a week in which entities are deleted; they stay deleted",
        build: stories::client_offline_week,
    },
    Scenario {
        name: "catch-up-interrupted",
        line: "A catch-up is cut again and again and resumes with another peer; nothing is skipped",
        build: stories::catch_up_interrupted,
    },
    Scenario {
        name: "tombstones-away",
        line: "Tombstones come of age while a replica is away; they wait for it",
        build: stories::tombstones_away,
    },
    Scenario {
        name: "slow-consumer",
        line: "A watcher reads slower than others write; memory stays bounded and it misses nothing",
        build: stories::slow_consumer,
    },
    Scenario {
        name: "ten-thousand-tenants",
        line: "Ten thousand tenants, forty changed, some while a replica is away; a catch-up costs by the difference",
        build: stories::ten_thousand_tenants,
    },
    Scenario {
        name: "poisoned-change",
        line: "A change that no release understands is kept and passed on; it stops nobody",
        build: stories::poisoned_change,
    },
    Scenario {
        name: "node-replaced",
        line: "A node and its disk are lost; another takes its place, its tenants and its vote",
        build: stories::node_replaced,
    },
    Scenario {
        name: "queries-followed",
        line: "Clients follow queries over cuts, moves and absences; each sees all, once, and never goes back in time",
        build: readers::queries_followed,
    },
    Scenario {
        name: "answers-sent",
        line: "The same where queries rest on more than a client is sent: nodes send the answers themselves",
        build: readers::answers_sent,
    },
    Scenario {
        name: "readers-move",
        line: "Readers leave a region that is cut off for others, which lack what they saw; none is taken back in time",
        build: readers::readers_move,
    },
    Scenario {
        name: "rooms-meet",
        line: "Clients meet in rooms while regions are cut off and nodes die; in the end all see who is there",
        build: readers::rooms_meet,
    },
    Scenario {
        name: "node-leaves",
        line: "A node, the leader at that, is drained, removed when nothing is left on it, and ends; another comes",
        build: rules::node_leaves,
    },
    Scenario {
        name: "rolling-upgrade",
        line: "Nodes move to a newer wire version one by one under load; none stops serving",
        build: stories::rolling_upgrade,
    },
    Scenario {
        name: "placement-moves",
        line: "A tenant moves between regions and back; no value stays or arrives where it must not",
        build: stories::placement_moves,
    },
    Scenario {
        name: "leases-race",
        line: "The leader is cut off while its followers' clocks and timers run fast; no look shows what is past",
        build: rules::leases_race,
    },
    Scenario {
        name: "log-outgrown",
        line: "A node is away while the control plane's log outgrows what is kept; it gets a snapshot",
        build: rules::log_outgrown,
    },
    Scenario {
        name: "collection-unheard",
        line: "A replica hears late that tombstones were collected, and asks one that has; it waits for the news",
        build: rules::collection_unheard,
    },
    Scenario {
        name: "written-while-away",
        line: "A region that is cut off goes on with what the others delete; the deletions wait for it, and last",
        build: rules::written_while_away,
    },
    Scenario {
        name: "answers-lost",
        line: "The first answer to every command is lost; asked again, it is carried out once and answered the same",
        build: rules::answers_lost,
    },
    Scenario {
        name: "slow-region",
        line: "A region hears of deletions when they are old; nothing is collected before it has",
        build: rules::slow_region,
    },
    Scenario {
        name: "moves-in-a-hurry",
        line: "A tenant leaves a node that alone has its last changes; the node hands them over first",
        build: rules::moves_in_a_hurry,
    },
    Scenario {
        name: "forwarded",
        line: "Clients reach only a node without their tenant; it passes everything on and keeps nothing",
        build: rules::forwarded,
    },
    Scenario {
        name: "lagging-node",
        line: "Clients move to a node that has not heard of what they made; it says so, and loses no change",
        build: rules::lagging_node,
    },
    Scenario {
        name: "copied-page",
        line: "Two pages with one identity write different things under one stamp; all replicas show the same",
        build: rules::copied_page,
    },
    Scenario {
        name: "power-lost-everywhere",
        line: "All nodes lose power at one moment, twice; what was acknowledged is there",
        build: stories::power_lost_everywhere,
    },
    Scenario {
        name: "clock-jumps-offline",
        line: "Clients' clocks jump ahead while their pushes get no answer; nobody waits for clocks to come near",
        build: rules::clock_jumps_offline,
    },
];
