//! A made-up run, as text and as a page; and what a trace makes of lanes and marks.

use halcyon_core::id::{NodeId, OriginId};
use rand::RngExt as _;

use super::*;
use crate::{
    plan::{scenario, stream::Stream},
    world::{machine::Machine, trace::Told},
};

fn mark(at: u64, lane: usize, kind: Kind, text: &str) -> Mark {
    Mark {
        at: Moment::millis(at),
        lane: Some(LaneAt(lane)),
        kind,
        text: text.to_owned(),
    }
}

/// A minute with thousands of commits, some rare things, and a violation.
fn busy(scenario: &str) -> Timeline {
    let plan = (scenario::find(scenario).unwrap().build)(7);
    let mut timeline = Timeline::of_plan(&plan);
    let mut stream = Stream::of(7, "test");
    let lanes = timeline.lanes.len();
    for at in (100..60_000).step_by(20) {
        let lane = stream.rng().random_range(0..lanes);
        timeline
            .marks
            .push(mark(at, lane, Kind::Commit, "t1 committed {n1:17}, 3 changes"));
    }
    for at in (2_000..60_000).step_by(3_000) {
        timeline.links.push(Link {
            sent: Moment::millis(at),
            received: Moment::millis(at + 180),
            from: LaneAt(1),
            to: LaneAt(0),
            kind: Kind::CatchUp,
            text: "t1, 94 facts".to_owned(),
        });
    }
    timeline.marks.push(mark(9_000, 1, Kind::Role, "leads in term 4"));
    timeline.marks.push(mark(
        41_000,
        0,
        Kind::Violation,
        &format!("lost: {}", "an acknowledged change ".repeat(12)),
    ));
    timeline
        .head
        .push(("violation".to_owned(), "acknowledged is durable".to_owned()));
    timeline
}

#[test]
fn a_plan_gives_lanes_and_spans() {
    let plan = (scenario::find("node-replaced").unwrap().build)(1);
    let timeline = Timeline::of_plan(&plan);
    let names: Vec<&str> = timeline.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["h1", "h2", "h3", "h4", "h5", "c1", "c2", "c3"]);
    assert_eq!(timeline.lanes[4].note, "eu-de", "it joins where the lost one was");
    assert_eq!(timeline.spans[0].lanes, [LaneAt(3), LaneAt(4)]);
    assert_eq!(timeline.spans[0].start, timeline.spans[0].end, "it happens at once");
    let cut = (scenario::find("partition-heals").unwrap().build)(1);
    let timeline = Timeline::of_plan(&cut);
    let named: Vec<&str> = timeline.spans[0]
        .lanes
        .iter()
        .map(|lane| timeline.lanes[lane.0].name.as_str())
        .collect();
    assert_eq!(named, ["h3", "c3"], "a region is cut off with its clients");
}

#[test]
fn a_line_fits_and_the_page_is_short_enough_to_read() {
    for scenario in scenario::all() {
        let text = text::render(&busy(scenario.name));
        for line in text.lines() {
            assert!(line.chars().count() <= text::COLUMNS_MAX, "{line}");
        }
        assert!(text.lines().count() <= text::LINES_MAX + 30, "{}", scenario.name);
    }
}

#[test]
fn faults_and_violations_are_always_shown_and_the_rest_is_counted() {
    let text = text::render(&busy("crash-in-commit"));
    for id in 0..9 {
        assert!(text.contains(&format!("#{id} h")), "fault {id} starts");
        assert!(text.contains(&format!("#{id} ends")), "fault {id} ends");
    }
    assert!(text.contains("VIOLATION h1: lost: an acknowledged change"));
    assert!(text.contains("leads in term 4"));
    let counted: usize = text
        .lines()
        .filter_map(|line| line.split_once("~ ")?.1.split_once(" commit"))
        .filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok())
        .sum();
    let shown = text.lines().filter(|line| line.contains("t1 committed")).count();
    assert_eq!(counted + shown, (100..60_000).step_by(20).count());
    assert!(shown >= 20, "the neighbourhood of the violation is shown");
}

#[test]
fn a_message_is_an_arrow_between_lanes_and_a_lane_shows_what_is_wrong_with_it() {
    let mut timeline = Timeline {
        title: "seed 1".to_owned(),
        lanes: ["h1", "h2", "h3"]
            .map(|name| Lane {
                name: name.to_owned(),
                note: "eu-de".to_owned(),
            })
            .to_vec(),
        end: Moment::millis(9_000),
        ..Timeline::default()
    };
    let span = |(start, end), lane, effect, text: &str| Span {
        start: Moment::millis(start),
        end: Moment::millis(end),
        lanes: vec![LaneAt(lane)],
        effect,
        text: text.to_owned(),
    };
    timeline
        .spans
        .push(span((1_000, 4_000), 2, Effect::Cut, "#0 h3 | all others"));
    timeline
        .spans
        .push(span((2_000, 5_000), 1, Effect::Down, "#1 h2 loses power"));
    timeline.marks.push(mark(3_000, 0, Kind::Role, "leads in term 2"));
    timeline.links.push(Link {
        sent: Moment::millis(6_000),
        received: Moment::millis(6_200),
        from: LaneAt(2),
        to: LaneAt(0),
        kind: Kind::CatchUp,
        text: "t1, 94 facts".to_owned(),
    });
    let text = text::render(&timeline);
    let expected = "\
              h1      h2      h3
              eu-de   eu-de   eu-de
              ~ 1.000 s: nothing
       1.000  |       |       v        #0 h3 | all others
              ~ 1.000 s: nothing
       2.000  |       v       :        #1 h2 loses power
              ~ 1.000 s: nothing
       3.000  L       .       :        h1: leads in term 2
              ~ 1.000 s: nothing
       4.000  |       .       ^        #0 ends
              ~ 1.000 s: nothing
       5.000  |       ^       |        #1 ends
              ~ 1.200 s: nothing
       6.200  <---------------o        h3 -> h1 catch-up t1, 94 facts (200 ms)
              ~ 2.800 s: nothing
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn the_page_asks_for_nothing_and_no_text_of_a_run_ends_its_data() {
    let mut timeline = busy("partition-heals");
    timeline.title = "seed 7 <b>".to_owned();
    timeline
        .marks
        .push(mark(5, 0, Kind::Note, "</script><script>alert(1)</script>{{data}}"));
    let page = html::render(&timeline);
    for request in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(request), "{request}");
    }
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<title>seed 7 &lt;b></title>").count(), 1);
    let (_, data) = page.split_once(r#"type="application/json">"#).unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["marks"].as_array().unwrap().len(), timeline.marks.len());
    assert_eq!(data["kinds"][0], "violation");
    assert!(page.len() < 1 << 20);
}

#[test]
fn every_kind_has_a_letter_of_its_own_and_a_color() {
    let letters: std::collections::BTreeSet<char> = KINDS.iter().map(|kind| kind.letter()).collect();
    assert_eq!(letters.len(), KINDS.len());
    let page = html::render(&Timeline::default());
    let effects = [
        Effect::Down,
        Effect::Cut,
        Effect::Network,
        Effect::Disk,
        Effect::Clock,
        Effect::Operator,
    ];
    let effects = effects.map(|effect| serde_json::to_string(&effect).unwrap());
    let names = KINDS.iter().map(|kind| kind.name().to_owned());
    for name in names.chain(effects.iter().map(|name| name.trim_matches('"').to_owned())) {
        assert_eq!(
            page.matches(&format!("--{name}: #")).count(),
            2,
            "{name}, light and dark"
        );
    }
}

fn told(at: u64, machine: Machine, kind: &'static str, detail: &str) -> Told {
    Told {
        at: at * 1_000_000,
        machine,
        kind,
        detail: detail.to_owned(),
    }
}

const H1: Machine = Machine::Host(1);
const H2: Machine = Machine::Host(2);
const C1: Machine = Machine::Client(1);
const TENANT: &str = "aaaaaaaaaaaaaaaaaaaaa";

/// A set of node 2, as storage tells of it.
fn set(at: u64, machine: Machine, seq: u64) -> Told {
    let origin = OriginId {
        node: NodeId(2),
        incarnation: 0xabc,
    };
    let origin = hex::encode(origin.to_bytes());
    told(
        at,
        machine,
        "storage.committed",
        &format!("{TENANT} {origin} {seq} 0123456789abcdef 00"),
    )
}

/// The run of this scenario in which three nodes serve and t1 is made, and then this happens.
#[track_caller]
fn check(scenario: &str, happened: Vec<Told>, expected: &str) {
    let plan = (scenario::find(scenario).unwrap().build)(1);
    let mut all: Vec<Told> = (1..=3)
        .map(|number| told(1, Machine::Host(number), "node.serves", &format!("as node n{number}")))
        .collect();
    all.push(told(2, Machine::World, "tenant", &format!("t1 is {TENANT}")));
    all.extend(happened);
    all.push(told(9_000, Machine::World, "violation", "rule: broken"));
    let timeline = Timeline::of_run(&plan, &all);
    let shown = text::around_violation(&timeline);
    let begins = shown
        .iter()
        .position(|line| line.contains(": serves as node n3"))
        .unwrap();
    let ends = shown
        .iter()
        .position(|line| line.contains("VIOLATION rule: broken"))
        .unwrap();
    let lines = shown[begins + 1..ends]
        .iter()
        .filter(|line| !line.contains("tenant t1 is"));
    let lines: Vec<&str> = lines
        .map(|line| line.trim_start())
        .filter(|line| !line.starts_with('~'))
        .collect();
    assert_eq!(lines.join("\n"), expected.trim());
}

#[test]
fn votes_are_roles() {
    check(
        "partition-heals",
        vec![
            told(10, H2, "metadata.vote", "<T4-N2:->"),
            told(20, H1, "metadata.vote", "<T4-N2:->"),
            told(30, H2, "metadata.vote", "<T4-N2:Q>"),
            told(40, H1, "metadata.vote", "<T4-N2:Q>"),
            told(41, H1, "metadata.vote", "<T4-N2:Q>"),
            told(50, H2, "metadata.vote", "<T5-N9:->"),
        ],
        "
0.010  |       L       |       |       |       |        h2: stands for election in term 4
0.020  L       |       |       |       |       |        h1: votes for h2 in term 4
0.030  |       L       |       |       |       |        h2: leads in term 4
0.040  L       |       |       |       |       |        h1: follows h2 in term 4
0.050  |       L       |       |       |       |        h2: leads no more: votes for n9 in term 5",
    );
}

#[test]
fn a_set_that_is_durable_elsewhere_was_passed_on_and_its_client_hears_of_it() {
    check(
        "partition-heals",
        vec![
            set(100, H2, 7),
            told(130, C1, "client.acknowledged", "set 3 at n2.abc:7"),
            set(150, H1, 7),
            set(160, H1, 8),
            set(170, H1, 7),
            told(180, C1, "client.acknowledged", "set 4 at n2.abc:9"),
        ],
        "
0.100  |       c       |       |       |       |        h2: t1 n2.abc:7
0.130  |       o--------------->       |       |        h2 -> c1 push acknowledged: set 3 at n2.abc:7 (30 ms)
0.150  <-------o       |       |       |       |        h2 -> h1 gossip t1 n2.abc:7 (50 ms)
0.160  g       |       |       |       |       |        h1: t1 n2.abc:8
0.170  n       |       |       |       |       |        h1: has t1 n2.abc:7 in its log
0.180  |       |       |       w       |       |        c1: acknowledged: set 4 at n2.abc:9",
    );
}

#[test]
fn catch_ups_collections_and_reads_are_told() {
    let pull = format!("{TENANT} from n2");
    check(
        "partition-heals",
        vec![
            told(200, H1, "catch-up.began", &pull),
            told(290, H1, "catch-up.broke", &format!("{pull}: no message in time")),
            told(300, H1, "catch-up.began", &pull),
            told(420, H1, "catch-up.ended", &pull),
            told(500, H2, "collection.ended", &format!("{TENANT} in epoch 1, 12 cells")),
            told(510, C1, "client.read", "c1-1-1: [(thing/f0, String(\"value\"))]"),
        ],
        "
0.200  U       |       |       |       |       |        h1: asks h2 for what it lacks of t1
0.290  U       |       |       |       |       |        h1: catch-up broke off: t1 from n2: no message in time
0.300  U       |       |       |       |       |        h1: asks h2 for what it lacks of t1
0.420  <-------o       |       |       |       |        h2 -> h1 catch-up t1 (120 ms)
0.500  |       T       |       |       |       |        h2: has tombstones collected of t1 in epoch 1, 12 cells
0.510  |       |       |       r       |       |        c1: reads c1-1-1: [(thing/f0, String(\"value\"))]",
    );
}

#[test]
fn a_cut_of_the_leader_is_on_the_leaders_lane() {
    let plan = (scenario::find("leader-isolated").unwrap().build)(1);
    let cut = plan
        .faults
        .iter()
        .position(|fault| fault.kind.name() == "leader-cut")
        .unwrap();
    let begins = format!("#{} begins: {}", plan.faults[cut].id, plan.faults[cut].kind);
    let happened = [
        told(1, H2, "node.serves", "as node n2"),
        told(2, H2, "metadata.vote", "<T1-N2:Q>"),
        told(plan.faults[cut].start.0, Machine::World, "fault", &begins),
    ];
    assert_eq!(Timeline::of_plan(&plan).spans[cut].lanes, []);
    let timeline = Timeline::of_run(&plan, &happened);
    assert_eq!(timeline.spans[cut].lanes, [LaneAt(1)]);
    assert!(timeline.spans[cut].text.ends_with("(h2 leads)"));
}

#[test]
fn a_violation_stands_in_the_lane_that_it_names() {
    let plan = (scenario::find("partition-heals").unwrap().build)(1);
    let lane_of = |what: &str| {
        let asked = told(1, Machine::Operator(3), "operator.asked", "shared-1: read: Ok(())");
        let violation = told(9_000, Machine::World, "violation", what);
        let timeline = Timeline::of_run(&plan, &[asked, violation]);
        let lanes = timeline
            .violations()
            .map(|mark| mark.lane.map(|lane| timeline.lanes[lane.0].name.clone()));
        lanes.collect::<Vec<_>>()
    };
    let on = |name: &str| Some(name.to_owned());
    assert_eq!(lane_of("durable: c2 was told that its set is at n1.abc:4"), [on("c2")]);
    assert_eq!(lane_of("watch: what c3's watch told makes something else"), [on("c3")]);
    assert_eq!(lane_of("raft: h1 voted for T5-N2 after T5-N3, h2 did not"), [on("h1")]);
    assert_eq!(lane_of("left-out: c1-1-7 of n1 is gone"), [None]);
    let unexplained = "linearizable: tenant name shared-1: nothing explains  [5000, 7000] o3: read -> 1\nall before";
    assert_eq!(
        lane_of(unexplained),
        [on("o3"), on("o3")],
        "the end of the run, and the answer itself"
    );
}
