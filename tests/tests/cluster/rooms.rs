//! Rooms across regions: who is in one is seen by all in it, and who dies is not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use halcyon_client::{
    Client, ClientOptions, env,
    rooms::{Room, RoomMessage},
};
use halcyon_tests::{
    cluster::Cluster,
    wait::{self, Stopwatch, runtime},
};
use tokio::time::timeout;

/// Where the tenant is: n1 and n2.
const TWO: [&str; 2] = ["eu-west", "us-east"];

/// A client at one node, in a room.
struct Guest {
    client: Client,
    room: Room,
    heard: Vec<RoomMessage>,
}

impl Guest {
    #[track_caller]
    fn enter(cluster: &Cluster, at: usize, room: &str, user: &str) -> Self {
        let options = ClientOptions {
            addresses: vec![cluster.address(at)],
            // It stays at that node.
            forward: true,
            ..cluster.options("notes")
        };
        runtime().block_on(async {
            let environment = env::system(None).expect("files in memory need nothing");
            let client = Client::connect(environment, options).await.expect("the node is up");
            let room = client
                .room(room)
                .enter(user, "{}")
                .await
                .expect("the room is open to all");
            let heard = Vec::new();
            Self { client, room, heard }
        })
    }

    /// Takes in what happens until there is something.
    #[track_caller]
    fn until<T>(&mut self, what: &str, within: Duration, look: impl Fn(&Self) -> Option<T>) -> T {
        let watch = Stopwatch::start();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let left = within.saturating_sub(watch.elapsed());
            let next = runtime().block_on(async { timeout(left, self.room.next()).await });
            let changes = next.unwrap_or_else(|_| panic!("{what}: not within {within:?}"));
            self.heard.extend(changes.expect("the client is open").messages);
        }
    }

    /// The others' names and presences.
    fn others(&self) -> Vec<(String, String)> {
        let users = self.room.users().into_iter();
        users.map(|user| (user.user, user.presence)).collect()
    }

    #[track_caller]
    fn until_sees(&mut self, others: &[(&str, &str)]) {
        let expected = others
            .iter()
            .map(|(user, presence)| ((*user).to_owned(), (*presence).to_owned()));
        let expected: Vec<(String, String)> = expected.collect();
        self.until(&format!("sees {others:?}"), wait::SOON, |guest| {
            (guest.others() == expected).then_some(())
        });
    }
}

#[test]
fn guests_at_nodes_of_two_regions_see_what_each_does_and_says_and_the_rooms_status() {
    let mut cluster = Cluster::boot(&TWO);
    cluster.tenant("notes", &TWO);
    let mut ann = Guest::enter(&cluster, 0, "doc", "ann");
    let mut bob = Guest::enter(&cluster, 1, "doc", "bob");
    let mut eve = Guest::enter(&cluster, 1, "other", "eve");
    ann.until_sees(&[("bob", "{}")]);
    bob.until_sees(&[("ann", "{}")]);
    for x in 0..100 {
        ann.room.set_presence(&format!("{{\"x\":{x}}}"));
    }
    bob.until_sees(&[("ann", "{\"x\":99}")]);
    assert_eq!(bob.room.users()[0].region, "eu-west");

    let say = ann.room.send("ping", "7", &[]);
    runtime().block_on(say).expect("the node takes it");
    let said = bob.until("hears ann", wait::SOON, |bob| bob.heard.first().cloned());
    assert_eq!((said.topic.as_str(), said.payload.as_str()), ("ping", "7"));
    assert_eq!(Some(said.from), ann.room.connection());

    let set = bob.room.set_status(&[("mode", Some("\"review\""))]);
    runtime().block_on(set).expect("the node takes it");
    let mode = ann.until("sees the status", wait::SOON, |ann| ann.room.status("mode"));
    assert_eq!(mode, "\"review\"");
    // Who comes later is told all of it.
    let mut dan = Guest::enter(&cluster, 0, "doc", "dan");
    dan.until("sees the status", wait::SOON, |dan| dan.room.status("mode"));
    eve.until_sees(&[]);

    runtime().block_on(bob.room.leave()).expect("the node takes it");
    ann.until_sees(&[("dan", "{}")]);
    runtime().block_on(async {
        for client in [ann.client, bob.client, dan.client, eve.client] {
            client.close().await;
        }
    });
}

#[test]
fn a_killed_nodes_guests_are_gone_within_seconds_and_back_when_it_is() {
    let mut cluster = Cluster::boot(&TWO);
    cluster.tenant("notes", &TWO);
    let mut ann = Guest::enter(&cluster, 0, "doc", "ann");
    let mut bob = Guest::enter(&cluster, 1, "doc", "bob");
    ann.until_sees(&[("bob", "{}")]);
    bob.until_sees(&[("ann", "{}")]);
    cluster.nodes[1].kill();
    let watch = Stopwatch::start();
    ann.until("bob is gone", wait::SOON, |ann| ann.others().is_empty().then_some(()));
    note(&format!("after kill -9 its guest was gone in {:?}", watch.elapsed()));
    cluster.start(1);
    // His program connects anew by itself and enters again.
    ann.until_sees(&[("bob", "{}")]);
    bob.until_sees(&[("ann", "{}")]);
}

#[test]
fn a_command_in_one_region_hears_a_command_in_another() {
    let mut cluster = Cluster::boot(&TWO);
    cluster.tenant("notes", &TWO);
    let watching = cluster.start_keyed(
        0,
        "notes",
        &["--json", "room", "watch", "doc", "--count", "100"],
        "watch",
    );
    wait::until("it hears", wait::SOON, || {
        let sent = cluster.run_keyed(
            1,
            "notes",
            &["room", "send", "doc", "--topic", "ping", "7", "--status", "a=1"],
        );
        assert_eq!(sent.code, 0, "{sent:?}");
        let lines = watching.lines();
        let said = |line: &String| line.contains("\"topic\":\"ping\"") && line.contains("\"payload\":7");
        lines.iter().any(said).then_some(())
    });
}

const CURSORS: usize = 50;
const CURSOR_RATE: u32 = 60;
const MEASURED: Duration = Duration::from_secs(10);

/// Not a check: prints figures. `cargo test --release -p halcyon-tests --test cluster -- --ignored --nocapture cursors`
#[test]
#[ignore = "a measurement"]
fn cursors_of_fifty_guests_at_sixty_hertz() {
    let mut cluster = Cluster::boot(&TWO[..1]);
    cluster.tenant("notes", &TWO[..1]);
    let guests: Vec<Guest> = (0..CURSORS)
        .map(|at| Guest::enter(&cluster, 0, "doc", &format!("u{at}")))
        .collect();
    let delays = Arc::new(Mutex::new(Vec::new()));
    let epoch = Stopwatch::start();
    let pid = cluster.nodes[0].pid().expect("it runs");
    let before = (cpu_time(pid), cpu_time(std::process::id()), Stopwatch::start());
    runtime().block_on(async {
        let guests = guests
            .into_iter()
            .map(|guest| tokio::spawn(play(guest, epoch, delays.clone())));
        for guest in guests.collect::<Vec<_>>() {
            guest.await.expect("no guest fails");
        }
    });
    let wall = before.2.elapsed().as_secs_f64();
    let node = (cpu_time(pid) - before.0) / wall;
    let own = (cpu_time(std::process::id()) - before.1) / wall;
    let mut delays = std::mem::take(&mut *delays.lock().expect("no guest fails"));
    delays.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((delays.len() - 1) as f64 * share) as usize;
        f64::from(delays[index]) / 1_000.0
    };
    note(&format!(
        "{CURSORS} cursors at {CURSOR_RATE} Hz: {} told in {wall:.1} s; delay p50 {:.1} ms, p99 {:.1} ms; node {:.0}% of a \
         core, the guests {:.0}%",
        delays.len(),
        at(0.5),
        at(0.99),
        node * 100.0,
        own * 100.0
    ));
}

/// Moves its cursor, which is the time, and notes how late it sees the others'.
async fn play(mut guest: Guest, epoch: Stopwatch, delays: Arc<Mutex<Vec<u32>>>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / CURSOR_RATE);
    let mut seen = Vec::new();
    let begin = Stopwatch::start();
    while begin.elapsed() < MEASURED {
        tokio::select! {
            biased;
            _ = tick.tick() => guest.room.set_presence(&epoch.elapsed().as_micros().to_string()),
            changes = guest.room.next() => {
                let now = epoch.elapsed().as_micros();
                let changes = changes.expect("the client is open");
                guest.room.read(|view| for connection in &changes.moved {
                    let sent = view.user(connection).and_then(|user| user.presence.parse::<u128>().ok());
                    seen.extend(sent.and_then(|sent| u32::try_from(now.saturating_sub(sent)).ok()));
                });
            }
        }
    }
    delays.lock().expect("no guest fails").extend(seen);
}

/// Seconds of processor time that a process has used.
fn cpu_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux tells");
    let after = stat.rsplit_once(')').expect("the name is in brackets").1;
    let fields: Vec<f64> = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

#[expect(clippy::print_stderr, reason = "figures for a person")]
fn note(text: &str) {
    eprintln!("{text}");
}
