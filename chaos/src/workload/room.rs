//! A client in a room: it enters, says what it does, changes the room's status, speaks to all or to one, leaves and comes
//! back; once all settles it stays and says nothing more.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use halcyon_client::{Client as Halcyon, rooms::Room};
use halcyon_core::id::TenantId;
use rand::{RngExt, rngs::SmallRng};
use tokio::time::{Sleep, sleep};

use crate::{
    oracles::{Event, RoomShown, Said},
    plan::cluster::Client,
    run::{Phase, Stage},
    world::{
        chance::{self, Purpose},
        machine::Machine,
        trace,
    },
};

/// All tenants have one of this name: they are different rooms.
const ROOM: &str = "meeting";

/// How long a client is in, in milliseconds.
const IN_FOR: std::ops::RangeInclusive<u64> = 500..=30_000;

/// How long it is out then, in milliseconds.
const OUT_FOR: std::ops::RangeInclusive<u64> = 1..=6_000;

/// Between two things that it does, in milliseconds.
const PAUSE: std::ops::RangeInclusive<u64> = 50..=1_500;

/// Fields of the room's status.
const FIELDS: u32 = 3;

/// One life of a client, as far as rooms are concerned.
pub(super) struct Visitor {
    stage: Rc<Stage>,
    number: Client,
    tenant: TenantId,
    user: String,
    chance: SmallRng,
    /// How often it has said what it does.
    moves: u64,
    /// How many messages and values it has sent.
    sent: u64,
}

impl Visitor {
    pub(super) fn new(stage: Rc<Stage>, number: Client, life: u32, tenant: TenantId) -> Self {
        let seed = stage.plan.seed ^ u64::from(life) << 40;
        Self {
            chance: chance::stream(seed, Purpose::Room, Machine::Client(number.0)),
            stage,
            number,
            tenant,
            user: format!("{number}-{life}"),
            moves: 0,
            sent: 0,
        }
    }

    /// Goes in and out, without end.
    pub(super) async fn run(mut self, client: Halcyon) {
        loop {
            self.say_move();
            match client.room(ROOM).enter(&self.user, &self.presence()).await {
                Ok(mut room) => {
                    self.tell("room.entered", String::new());
                    let until = sleep(self.drawn(IN_FOR));
                    self.be_in(&mut room, until).await;
                    self.stage.hear(&Event::LeftRoom(self.number));
                    // Dropped, it says nothing of it to anybody who waits.
                    if self.chance.random_bool(0.5) {
                        let left = room.leave().await;
                        self.tell("room.left", format!("{left:?}"));
                    }
                }
                Err(error) => self.tell("room.not-entered", error.to_string()),
            }
            sleep(self.drawn(OUT_FOR)).await;
        }
    }

    /// Until it is time to leave, which does not come while all settles.
    async fn be_in(&mut self, room: &mut Room, until: Sleep) {
        tokio::pin!(until);
        loop {
            self.show(room);
            let pause = self.drawn(PAUSE);
            let is_working = self.stage.phase() == Phase::Working;
            tokio::select! {
                biased;
                changes = room.next() => {
                    let Some(changes) = changes else { return };
                    for message in changes.messages {
                        self.stage.hear(&Event::Heard(self.number, self.tenant, message));
                    }
                }
                () = &mut until, if is_working => return,
                () = sleep(pause) => {
                    if is_working {
                        self.act(room).await;
                    }
                }
            }
        }
    }

    async fn act(&mut self, room: &Room) {
        match self.chance.random_range(0..4) {
            0 | 1 => {
                self.say_move();
                room.set_presence(&self.presence());
            }
            2 => {
                let key = format!("field-{}", self.chance.random_range(0..FIELDS));
                let value = self.say(None);
                let is_set = self.chance.random_bool(0.8);
                let done = room.set_status(&[(&key, is_set.then_some(value.as_str()))]).await;
                self.tell("room.status", format!("{key} {value} {is_set}: {done:?}"));
            }
            _ => {
                let users = room.users();
                let one = (!users.is_empty() && self.chance.random_bool(0.3))
                    .then(|| &users[self.chance.random_range(0..users.len())]);
                let payload = self.say(one.map(|one| one.user.clone()));
                let to: Vec<String> = one.map(|one| one.connection.clone()).into_iter().collect();
                let done = room.send("talk", &payload, &to).await;
                self.tell("room.message", format!("{payload} to {to:?}: {done:?}"));
            }
        }
    }

    /// Something that nobody else ever says.
    fn say(&mut self, to: Option<String>) -> String {
        self.sent += 1;
        let text = format!("\"{}-{}\"", self.user, self.sent);
        let said = Said {
            client: self.number,
            tenant: self.tenant,
            text: text.clone(),
            to,
        };
        self.stage.hear(&Event::Said(Rc::new(said)));
        text
    }

    fn say_move(&mut self) {
        self.moves += 1;
        let (user, presence) = (self.user.clone(), self.presence());
        self.stage.hear(&Event::Moved(self.number, user, presence));
    }

    fn presence(&self) -> String {
        self.moves.to_string()
    }

    /// What the client knows of the room.
    fn show(&self, room: &Room) {
        let status = room.read(|view| {
            let fields = view.fields();
            fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        });
        let users = room.users().into_iter();
        let mut by_user: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for user in users {
            by_user.entry(user.user).or_default().push(user.presence);
        }
        self.stage.hear(&Event::RoomShown(Rc::new(RoomShown {
            client: self.number,
            tenant: self.tenant,
            user: self.user.clone(),
            users: by_user,
            status,
            is_connected: room.is_connected(),
        })));
    }

    fn drawn(&mut self, millis: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.chance.random_range(millis))
    }

    fn tell(&self, kind: &'static str, detail: String) {
        trace::tell(Machine::Client(self.number.0), kind, detail);
    }
}
