//! The program on a client's machine: writes, reads, watches, and finishes once everything is acknowledged and held
//! twice. It may be killed at any moment and started again: what it remembers is on its disk, in the outbox.

use std::{rc::Rc, time::Duration};

use futures::StreamExt;
use halcyon_client::{Client as Halcyon, ClientOptions, Outbox, Refused};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate, Tag, TenantId},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::error::Refusal;
use rand::{RngExt, rngs::SmallRng};
use tokio::time::{sleep, timeout};

use super::{follow, room::Visitor, web::Web};
use crate::{
    oracles::Event,
    plan::cluster::{Client, ClientPlan, Mix, Transport},
    run::{Access, Phase, Stage},
    world::{
        chance::{self, Purpose},
        clock,
        machine::{self, Machine},
        trace,
    },
};

/// Pause before something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a client may take to hear that a second replica holds all its sets.
const SECOND_REPLICA_PATIENCE: Duration = Duration::from_secs(30);

/// A kind of change that no release has.
const OPAQUE_KIND: u8 = 200;

/// How often a page beside which others write has one write.
const COPIED: f64 = 0.3;

/// A read that takes longer is of no interest.
const READ_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(stage: Rc<Stage>, number: Client) -> turmoil::Result {
    let me = Machine::Client(number.0);
    machine::enter(me);
    stage.until(Phase::Working).await;
    let plan = stage.plan.client(number).expect("a client of the plan").clone();
    let access = stage.access(plan.tenant).expect("tenants are made before clients work");
    let start = plan
        .starts
        .duration()
        .saturating_sub(Duration::from_nanos(clock::now()));
    sleep(start).await;
    let mut speaker = match plan.transport {
        Transport::Native => Speaker::Native(connect(&stage, number, &access, &plan).await),
        Transport::GrpcWeb => {
            let env = stage.place(me).env.clone();
            Speaker::Web(Box::new(Web::new(env, access.clone(), stage.client_addresses())))
        }
    };
    let life = stage.next_life(number);
    // Neither a watch nor a session is passed on to another node: who reaches one only cannot follow what that one does
    // not hold.
    if let Speaker::Native(client) = &speaker
        && !plan.forward
    {
        attend(&stage, (number, life), (&plan, access.id), client);
    }
    let mut program = Program {
        chance: chance::stream(stage.plan.seed ^ u64::from(life) << 40, Purpose::Workload, me),
        stage: stage.clone(),
        number,
        tenant: access.id,
        mix: plan.mix,
        plan,
        life,
        values: 0,
        created: 0,
        has_poisoned: false,
    };
    while stage.phase() == Phase::Working {
        let pause = program.chance.random_range(0..=2 * program.plan.pace.0);
        sleep(Duration::from_millis(pause)).await;
        program.act(&mut speaker).await;
    }
    if let Speaker::Native(client) = &speaker {
        finish(&stage, number, client).await;
    }
    stage.finish(number);
    std::future::pending().await
}

/// What a client does beside its writes and reads.
fn attend(stage: &Rc<Stage>, (number, life): (Client, u32), (plan, tenant): (&ClientPlan, TenantId), client: &Halcyon) {
    if plan.mix.watch {
        tokio::task::spawn_local(watch(stage.clone(), number, tenant, client.clone()));
    }
    for follower in follow::followers(number, plan.mix.live) {
        tokio::task::spawn_local(follow::run(stage.clone(), follower, life, tenant, client.clone()));
    }
    if plan.mix.room {
        let visitor = Visitor::new(stage.clone(), number, life, tenant);
        tokio::task::spawn_local(visitor.run(client.clone()));
    }
}

async fn connect(stage: &Stage, number: Client, access: &Access, plan: &ClientPlan) -> Halcyon {
    let me = Machine::Client(number.0);
    loop {
        let mut addresses = stage.client_addresses();
        if plan.forward {
            // It can reach one node only, whichever that is; not one that the plan takes away for good.
            let kept = stage.kept_addresses();
            let at = number.0 as usize % kept.len().max(1);
            addresses = kept.into_iter().skip(at).take(1).collect();
        }
        let options = ClientOptions {
            addresses,
            tenant: access.name.clone(),
            key: access.key.clone(),
            outbox: Outbox::Disk("outbox".into()),
            forward: plan.forward,
            offline: true,
            ..ClientOptions::default()
        };
        match Halcyon::connect(stage.place(me).env.clone(), options).await {
            Ok(client) => return client,
            Err(error) => trace::tell(me, "client.again", error.to_string()),
        }
        sleep(AGAIN).await;
    }
}

/// Everything acknowledged, and held by a second replica where there is one. A client that is not told of the second
/// for long ends as well: what it keeps is for the case that the first is lost.
async fn finish(stage: &Stage, number: Client, client: &Halcyon) {
    let me = Machine::Client(number.0);
    let began = clock::now();
    loop {
        let is_patient = Duration::from_nanos(clock::now() - began) < SECOND_REPLICA_PATIENCE;
        match client.flush().await {
            Ok(()) => {
                let kept = client.status().kept;
                if kept == 0 || !stage.has_second_replica(number) {
                    break;
                }
                if !is_patient {
                    trace::tell(
                        me,
                        "client.kept",
                        format!("{kept} sets, of which it heard no second replica"),
                    );
                    break;
                }
            }
            Err(error) => trace::tell(me, "client.again", error.to_string()),
        }
        sleep(AGAIN).await;
    }
}

async fn watch(stage: Rc<Stage>, number: Client, tenant: TenantId, client: Halcyon) {
    let me = Machine::Client(number.0);
    loop {
        stage.hear(&Event::WatchBegan(number));
        let mut events = Box::pin(client.watch(VersionVector::default()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => stage.hear(&Event::Watched(number, tenant, event)),
                Err(error) => {
                    trace::tell(me, "watch.ended", error.to_string());
                    break;
                }
            }
        }
        sleep(AGAIN).await;
    }
}

/// How the program speaks to nodes.
enum Speaker {
    Native(Halcyon),
    Web(Box<Web>),
}

fn acknowledged(stage: &Stage, client: Client, (tenant, number, tag): (TenantId, u64, Tag)) {
    let told = format!("set {number} at {}:{}", tag.origin, tag.seq);
    trace::tell(Machine::Client(client.0), "client.acknowledged", told);
    stage.hear(&Event::Acknowledged {
        client,
        tenant,
        number,
        tag,
    });
}

fn refused(stage: &Stage, client: Client, refusal: Refusal) {
    let Refusal { code, message: why, .. } = refusal;
    trace::tell(Machine::Client(client.0), "client.refused", format!("{code:?}: {why}"));
    stage.hear(&Event::Refused { client, code, why });
}

/// What others hear of once a node has the set: nobody changes what nobody has told of.
fn created(changes: &[Change]) -> Vec<EntityId> {
    let created = changes.iter().filter_map(|change| match change {
        Change::Create { subject } => Some(subject.clone()),
        _ => None,
    });
    created.collect()
}

/// One life of the program.
struct Program {
    chance: SmallRng,
    stage: Rc<Stage>,
    number: Client,
    tenant: TenantId,
    mix: Mix,
    plan: ClientPlan,
    life: u32,
    values: u64,
    created: u64,
    has_poisoned: bool,
}

enum Deed {
    Set,
    Unset,
    Add,
    Remove,
    Create,
    Delete,
    Read,
}

impl Program {
    async fn act(&mut self, speaker: &mut Speaker) {
        let deed = self.draw();
        if let Deed::Read = deed {
            return self.read(speaker).await;
        }
        let mut changes = self.changes(&deed);
        changes.extend(self.poison());
        for _ in 1..self.chance.random_range(1..=self.mix.changes_max.max(1)) {
            let more = self.draw();
            changes.extend(self.changes(&more));
        }
        self.stage.hear(&Event::Writing(self.number));
        match speaker {
            Speaker::Native(client) => self.write(client, changes).await,
            Speaker::Web(web) => self.write_from_page(web, changes).await,
        }
    }

    async fn write(&self, client: &Halcyon, changes: Vec<Change>) {
        let me = Machine::Client(self.number.0);
        let created = created(&changes);
        let written = changes.clone();
        let pending = match client.write(changes).await {
            Ok(pending) => pending,
            Err(error) => return trace::tell(me, "client.not-written", error.to_string()),
        };
        let number = pending.number();
        let (stage, client, tenant) = (self.stage.clone(), self.number, self.tenant);
        let (of, most) = (self.plan.tenant, self.mix.entities as usize);
        stage.hear(&Event::Wrote {
            client,
            number,
            changes: written,
        });
        tokio::task::spawn_local(async move {
            match pending.acknowledged().await {
                Ok(taken) => {
                    acknowledged(&stage, client, (tenant, number, taken.tag));
                    stage.add_entities(of, created, most);
                }
                Err(Refused::Refused(refusal)) => refused(&stage, client, refusal),
                // It stays in the outbox.
                Err(other) => trace::tell(me, "client.refused", format!("set {number}: {other}")),
            }
        });
    }

    async fn write_from_page(&mut self, web: &mut Web, changes: Vec<Change>) {
        let me = Machine::Client(self.number.0);
        let created = created(&changes);
        let changed = changes.clone();
        if self.stage.plan.work.copied_pages && self.chance.random_bool(COPIED) {
            self.write_beside(web.copied(), "client.copy", &changed);
        }
        if self.stage.plan.work.heedless_pages && self.chance.random_bool(COPIED) {
            self.write_beside(web.heedless(), "client.heedless", &changed);
        }
        let written = web.write(changes, |why| trace::tell(me, "client.again", why)).await;
        if web.was_loaded_anew() {
            self.stage.hear(&Event::LoadedAnew(self.number));
        }
        let (number, tag) = match written {
            Ok(taken) => taken,
            Err(refusal) => return refused(&self.stage, self.number, refusal),
        };
        self.stage.hear(&Event::Wrote {
            client: self.number,
            number,
            changes: changed,
        });
        acknowledged(&self.stage, self.number, (self.tenant, number, tag));
        self.stage
            .add_entities(self.plan.tenant, created, self.mix.entities as usize);
    }

    /// Another page pushes the same changes with other values.
    fn write_beside(&mut self, mut page: Web, what: &'static str, changes: &[Change]) {
        let me = Machine::Client(self.number.0);
        let others = self.other_values(changes);
        tokio::task::spawn_local(async move {
            let told = page.write_once(others).await;
            trace::tell(me, what, format!("{told:?}"));
        });
    }

    async fn read(&mut self, speaker: &mut Speaker) {
        let Some(subject) = self.entity() else { return };
        self.stage.hear(&Event::Reading(self.number, self.tenant));
        let shown = match speaker {
            Speaker::Native(client) => timeout(READ_PATIENCE, client.get(&subject))
                .await
                .ok()
                .and_then(Result::ok),
            Speaker::Web(web) => web.get(&subject).await,
        };
        let (client, tenant) = (self.number, self.tenant);
        if let Some(shown) = &shown {
            trace::tell(
                Machine::Client(client.0),
                "client.read",
                format!("{subject}: {shown:?}"),
            );
        }
        match shown {
            Some(shown) => self.stage.hear(&Event::Read {
                client,
                tenant,
                subject,
                shown,
            }),
            None => trace::tell(Machine::Client(client.0), "client.not-read", subject.to_string()),
        }
    }

    /// The same changes with other values.
    fn other_values(&mut self, changes: &[Change]) -> Vec<Change> {
        let other = |change: &Change| match change {
            Change::Set { subject, predicate, .. } => Change::Set {
                subject: subject.clone(),
                predicate: predicate.clone(),
                value: self.value(),
            },
            change => change.clone(),
        };
        changes.iter().map(other).collect()
    }

    fn draw(&mut self) -> Deed {
        let mix = self.mix;
        let weighed = [
            (mix.set, Deed::Set),
            (mix.unset, Deed::Unset),
            (mix.add, Deed::Add),
            (mix.remove, Deed::Remove),
            (mix.create, Deed::Create),
            (mix.delete, Deed::Delete),
            (mix.read, Deed::Read),
        ];
        let all: u32 = weighed.iter().map(|(weight, _)| weight).sum();
        let mut left = self.chance.random_range(0..all.max(1));
        for (weight, deed) in weighed {
            if left < weight {
                return deed;
            }
            left -= weight;
        }
        Deed::Set
    }

    fn changes(&mut self, deed: &Deed) -> Vec<Change> {
        let known = if matches!(deed, Deed::Create) {
            None
        } else {
            self.entity()
        };
        let Some(subject) = known else { return self.create() };
        match deed {
            Deed::Set | Deed::Read | Deed::Create => vec![Change::Set {
                subject,
                predicate: self.predicate("f"),
                value: self.value(),
            }],
            Deed::Unset => vec![Change::Unset {
                subject,
                predicate: self.predicate("f"),
            }],
            Deed::Add => vec![Change::Add {
                subject,
                predicate: self.predicate("s"),
                value: self.element(),
            }],
            Deed::Remove => vec![Change::Remove {
                subject,
                predicate: self.predicate("s"),
                value: self.element(),
            }],
            Deed::Delete => vec![Change::Delete { subject }],
        }
    }

    /// A new entity. Its name is never used again: a nanoid would not be either.
    fn create(&mut self) -> Vec<Change> {
        self.created += 1;
        let name = format!("{}-{}-{}", self.number, self.life, self.created);
        let subject = EntityId::new(&name).expect("a good name");
        let create = Change::Create {
            subject: subject.clone(),
        };
        let set = Change::Set {
            subject,
            predicate: self.predicate("f"),
            value: self.value(),
        };
        vec![create, set]
    }

    /// A change that no release knows, once in a run that wants one.
    fn poison(&mut self) -> Option<Change> {
        let is_me = self.number == Client(1) && self.life == 1 && !self.has_poisoned;
        let at = self.stage.plan.work.poisoned_change_at.filter(|_| is_me)?;
        if clock::now() < at.0 * 1_000_000 {
            return None;
        }
        self.has_poisoned = true;
        let body = b"as a newer release has it".to_vec();
        Some(Change::Opaque {
            kind: OPAQUE_KIND,
            body,
        })
    }

    fn predicate(&mut self, kind: &str) -> Predicate {
        let field = self.chance.random_range(0..self.mix.fields.max(1));
        Predicate::new(&format!("thing/{kind}{field}")).expect("a good name")
    }

    /// One of the few that all clients of the tenant share, deleted or not; none before the first is made.
    fn entity(&mut self) -> Option<EntityId> {
        let entities = self.stage.entities(self.plan.tenant);
        if entities.is_empty() {
            return None;
        }
        let at = self.chance.random_range(0..entities.len());
        Some(entities[at].clone())
    }

    /// A text that nobody else ever writes, and that says whose it is.
    fn value(&mut self) -> Value {
        self.values += 1;
        let (tenant, number, life, count) = (self.plan.tenant, self.number, self.life, self.values);
        let mut text = format!("{}{number}-{life}-{count}", marker(tenant));
        let len = self.chance.random_range(0..=self.mix.value_bytes_max as usize);
        while text.len() < len {
            text.push('.');
        }
        Value::string(&text)
    }

    /// A member of a set: few, so that several clients put in and take out the same.
    fn element(&mut self) -> Value {
        let one = self.chance.random_range(0..8);
        Value::string(&format!("{}element-{one}", marker(self.plan.tenant)))
    }
}

/// Begins every value of a tenant, and nothing else.
pub(crate) fn marker(tenant: crate::plan::cluster::Tenant) -> String {
    format!("value-of-{tenant}-")
}
