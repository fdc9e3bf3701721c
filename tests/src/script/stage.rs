//! Plays the lines of a script on a cluster of real processes.

use std::collections::BTreeMap;

use halcyon_core::{change::Change, id::EntityId};
use halcyon_proto::v1::{ErrorCode, PushResult, push_result};
use tonic::Status;

use super::line::{Line, value};
use crate::{
    cluster::{Cluster, REGIONS},
    links::Link,
    load::{Door, entity, predicate},
    wait,
};

/// A cluster, once the script has booted it, and one client for each node and tenant.
#[derive(Debug, Default)]
pub struct Stage {
    cluster: Option<Cluster>,
    tenant: String,
    doors: BTreeMap<(usize, String), Door>,
}

impl Stage {
    /// Plays one line and returns what it says: nothing, or whole lines.
    #[track_caller]
    pub fn run(&mut self, line: &Line) -> String {
        match line.command() {
            "cluster" => self.boot(line),
            "tenant" => self.make_tenant(line),
            "on" => self.turn_to(line.word(1)),
            "create" | "set" | "unset" | "add" | "remove" | "delete" => self.write(line),
            "push" => self.push(line),
            "get" => self.get(line),
            "await" => self.wait_for(line),
            "settle" => self.settle(),
            "verify" => self.verify(),
            "locate" => self.locate(line),
            "place" => self.place(line),
            "drop" => self.drop_tenant(line),
            "join" => self.join(line),
            "lies" => self.lies(line),
            "voters" => self.voters(line),
            "drain" | "remove-node" | "lose" => self.take_out(line),
            "partition" | "cut" | "heal" => self.set_links(line),
            "kill" | "stop" | "start" => self.set_process(line),
            _ => panic!("`{}` is no command of a script", line.text),
        }
    }

    fn boot(&mut self, line: &Line) -> String {
        let count = line.count("nodes").unwrap_or(REGIONS.len());
        let regions = line
            .list("regions")
            .unwrap_or_else(|| REGIONS.iter().copied().cycle().take(count).collect());
        self.cluster = Some(Cluster::boot(&regions));
        let names: Vec<String> = regions
            .iter()
            .enumerate()
            .map(|(at, region)| format!("n{} {region}", at + 1))
            .collect();
        names.join(", ") + "\n"
    }

    fn make_tenant(&mut self, line: &Line) -> String {
        let name = line.word(1).to_owned();
        let all: Vec<String> = self.cluster().nodes.iter().map(|node| node.region.clone()).collect();
        let mut regions: Vec<&str> = line
            .list("regions")
            .unwrap_or_else(|| all.iter().map(String::as_str).collect());
        regions.dedup();
        self.cluster().tenant(&name, &regions);
        self.turn_to(&name) + &format!("{name} active in {}\n", self.regions_of(&name))
    }

    fn turn_to(&mut self, tenant: &str) -> String {
        tenant.clone_into(&mut self.tenant);
        String::new()
    }

    fn write(&mut self, line: &Line) -> String {
        let (at, subject) = (line.node(1), entity(line.word(2)));
        let changes = changes(line, &subject);
        let door = self.door(at);
        let encoded = door.set(changes).encode();
        // "Later" is no answer: a replica that has just become one opens for writes a moment after it is placed.
        let said = wait::until(&line.text, wait::SOON, || {
            let answer = door.push_encoded(vec![encoded.clone()]);
            let said = answer.map_or_else(|status| code_of(&status), |results| result_text(results.first()));
            (said != "RETRY" && said != "BUSY").then_some(said)
        });
        if said == "taken" {
            String::new()
        } else {
            format!("{}: {said}\n", line.text)
        }
    }

    fn push(&mut self, line: &Line) -> String {
        let (first, count) = (line.count("first").unwrap_or(0), line.count("count").unwrap_or(1));
        let taken = self.door(line.node(1)).write_entities(first, count).len();
        format!("{}: {taken} taken\n", line.word(1))
    }

    fn get(&mut self, line: &Line) -> String {
        let shown = self.shown(line.node(1), line.word(2));
        format!("{} {}: {shown}\n", line.word(1), line.word(2))
    }

    fn wait_for(&mut self, line: &Line) -> String {
        let wanted: Vec<String> = line
            .options
            .iter()
            .map(|(name, text)| format!("{name}={}", value(text).to_json()))
            .collect();
        wait::until(&line.text, wait::SOON, || {
            let shown = self.shown(line.node(1), line.word(2));
            wanted.iter().all(|field| shown.contains(field.as_str())).then_some(())
        });
        self.get(line)
    }

    fn settle(&mut self) -> String {
        let tenant = self.tenant.clone();
        let answer = self.cluster().settle(&tenant);
        let replicas = answer["replicas"].as_array().cloned().unwrap_or_default();
        let triples = replicas
            .first()
            .map_or(0, |replica| replica["triples"].as_u64().unwrap_or_default());
        format!("{} replicas agree on {triples} triples\n", replicas.len())
    }

    fn verify(&mut self) -> String {
        let tenant = self.tenant.clone();
        let verdict = if self.cluster().verify(&tenant).is_some() {
            "agree"
        } else {
            "disagree"
        };
        format!("replicas {verdict}\n")
    }

    fn locate(&mut self, line: &Line) -> String {
        let (at, tenant) = (line.node(1), self.tenant.clone());
        let cluster = self.cluster();
        let answer = cluster.run_keyed(at, &tenant, &["--json", "locate"]).ok().json();
        let replicas = answer["replicas"].as_array().cloned().unwrap_or_default();
        let mut regions: Vec<&str> = replicas
            .iter()
            .filter_map(|replica| replica["region"].as_str())
            .collect();
        regions.sort_unstable();
        format!("{}: {}\n", line.word(1), regions.join(" "))
    }

    fn place(&mut self, line: &Line) -> String {
        let tenant = line.word(1).to_owned();
        let regions = line.option("regions").unwrap_or_default().to_owned();
        let cluster = self.cluster();
        let home = regions.split(',').next().unwrap_or_default();
        cluster
            .run(&["tenant", "place", &tenant, "--regions", &regions, "--home", home])
            .ok();
        let count = regions.split(',').count();
        wait::until(&line.text, wait::LONG, || {
            let states = cluster.replica_states(&tenant);
            (states.len() == count && states.iter().all(|(_, state)| state == "active")).then_some(())
        });
        format!("{tenant} active in {}\n", self.regions_of(&tenant))
    }

    fn drop_tenant(&mut self, line: &Line) -> String {
        let tenant = line.word(1).to_owned();
        self.cluster().run(&["tenant", "delete", &tenant, "--yes"]).ok();
        String::new()
    }

    fn join(&mut self, line: &Line) -> String {
        let region = line.word(1);
        let at = self.cluster().join(region);
        format!("n{} {region}\n", at + 1)
    }

    fn lies(&mut self, line: &Line) -> String {
        let (tenant, nodes) = (line.word(1), &line.words[2..]);
        let cluster = self.cluster();
        wait::until(&line.text, wait::LONG, || {
            let states = cluster.replica_states(tenant);
            let active = states.iter().filter(|(_, state)| state == "active");
            let found: Vec<String> = active.map(|(node, _)| format!("n{node}")).collect();
            (states.len() == nodes.len() && found == nodes).then_some(())
        });
        format!("{tenant} active on {}\n", nodes.join(" "))
    }

    fn voters(&mut self, line: &Line) -> String {
        let wanted = &line.words[1..];
        let cluster = self.cluster();
        wait::until(&line.text, wait::LONG, || {
            let nodes = cluster.ask(&["node", "list"]).as_array().cloned().unwrap_or_default();
            let of_role = |role: &str| nodes.iter().filter(|node| node["role"] == role).count();
            let votes = nodes.iter().filter(|node| node["role"] != "learner");
            let found: Vec<String> = votes.map(|node| format!("n{}", node["node"])).collect();
            (of_role("leader") == 1 && found == wanted).then_some(())
        });
        format!("voters are {}\n", wanted.join(" "))
    }

    fn take_out(&mut self, line: &Line) -> String {
        let node = line.word(1);
        let arguments: &[&str] = match line.command() {
            "drain" => &["node", "drain", node],
            "lose" => &["node", "remove", node, "--force"],
            _ => &["node", "remove", node],
        };
        self.cluster().run(arguments).ok();
        String::new()
    }

    fn set_links(&mut self, line: &Line) -> String {
        let cluster = self.cluster();
        match line.command() {
            "partition" => cluster.partition(line.node(1)),
            "cut" => {
                cluster.links.set(line.node(1), line.node(2), Link::Cut);
                cluster.links.set(line.node(2), line.node(1), Link::Cut);
            }
            _ => cluster.links.heal(),
        }
        String::new()
    }

    fn set_process(&mut self, line: &Line) -> String {
        let at = line.node(1);
        let cluster = self.cluster();
        match line.command() {
            "kill" => cluster.nodes[at].kill(),
            "stop" => {
                let status = cluster.nodes[at].stop();
                assert!(status.success(), "{} stopped with {status}", line.word(1));
            }
            _ => cluster.start(at),
        }
        String::new()
    }

    fn shown(&mut self, at: usize, subject: &str) -> String {
        match self.door(at).get(subject) {
            Ok(fields) if fields.is_empty() => "nothing".to_owned(),
            Ok(fields) => {
                let fields: Vec<String> = fields.iter().map(|(name, text)| format!("{name}={text}")).collect();
                fields.join(" ")
            }
            Err(status) => code_of(&status),
        }
    }

    fn regions_of(&mut self, tenant: &str) -> String {
        let shown = self.cluster().ask(&["tenant", "show", tenant]);
        let replicas = shown["replicas"].as_array().cloned().unwrap_or_default();
        let mut regions: Vec<&str> = replicas
            .iter()
            .filter_map(|replica| replica["region"].as_str())
            .collect();
        regions.sort_unstable();
        regions.join(" ")
    }

    fn door(&mut self, at: usize) -> &mut Door {
        let key = (at, self.tenant.clone());
        if !self.doors.contains_key(&key) {
            let door = self.cluster().door(at, &key.1);
            self.doors.insert(key.clone(), door);
        }
        self.doors.get_mut(&key).expect("it was put there above")
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("a script boots its cluster first")
    }
}

fn changes(line: &Line, subject: &EntityId) -> Vec<Change> {
    let subject = || subject.clone();
    let fields = || line.options.iter().map(|(name, text)| (predicate(name), value(text)));
    let sets = || {
        fields().map(|(predicate, value)| Change::Set {
            subject: subject(),
            predicate,
            value,
        })
    };
    match line.command() {
        "create" => std::iter::once(Change::Create { subject: subject() })
            .chain(sets())
            .collect(),
        "set" => sets().collect(),
        "unset" => vec![Change::Unset {
            subject: subject(),
            predicate: predicate(line.word(3)),
        }],
        "add" => fields()
            .map(|(predicate, value)| Change::Add {
                subject: subject(),
                predicate,
                value,
            })
            .collect(),
        "remove" => fields()
            .map(|(predicate, value)| Change::Remove {
                subject: subject(),
                predicate,
                value,
            })
            .collect(),
        _ => vec![Change::Delete { subject: subject() }],
    }
}

fn result_text(result: Option<&PushResult>) -> String {
    match result.and_then(|result| result.result.as_ref()) {
        Some(push_result::Result::Taken(taken)) if taken.superseded.is_empty() => "taken".to_owned(),
        Some(push_result::Result::Taken(_)) => "superseded".to_owned(),
        Some(push_result::Result::Refused(error)) => error.code().as_str_name().to_owned(),
        None => "no answer".to_owned(),
    }
}

fn code_of(status: &Status) -> String {
    let error = halcyon_proto::error::from_status(status);
    let code = error.map(|error| {
        ErrorCode::try_from(error.code)
            .unwrap_or_default()
            .as_str_name()
            .to_owned()
    });
    code.unwrap_or_else(|| format!("{:?}", status.code()))
}
