//! Who is in a room sees who else is in it, what they do and what the room's status is: nobody of another tenant, nothing
//! that nobody said, no message twice, and none that was for another. In the end all see the same, and it is the truth.
//!
//! A message may be lost: it is told to whoever is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use halcyon_client::rooms::RoomMessage;
use halcyon_core::id::TenantId;

use super::{Event, Evidence, Oracle, RoomShown, Said};
use crate::plan::cluster::Client;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// By what was said.
    said: BTreeMap<String, Rc<Said>>,
    /// What each user did, the last at the end.
    moves: BTreeMap<String, (Client, Vec<String>)>,
    /// Who is in, and what it saw last.
    shown: BTreeMap<Client, Rc<RoomShown>>,
    heard: BTreeSet<(Client, String)>,
}

impl Oracle for Rooms {
    fn name(&self) -> &'static str {
        "rooms"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Said(said) => {
                self.said.insert(said.text.clone(), said.clone());
            }
            Event::Moved(client, user, presence) => {
                let (_, moves) = self.moves.entry(user.clone()).or_insert_with(|| (*client, Vec::new()));
                moves.push(presence.clone());
            }
            Event::Heard(client, tenant, message) => return self.hear_message(*client, *tenant, message),
            Event::RoomShown(shown) => {
                self.check(shown, evidence)?;
                self.shown.insert(shown.client, shown.clone());
            }
            Event::LeftRoom(client) | Event::ClientDown(client) => {
                self.shown.remove(client);
            }
            _ => {}
        }
        Ok(())
    }

    fn unsettled(&self, _evidence: Evidence<'_>) -> Option<String> {
        self.shown.values().find_map(|shown| {
            let client = shown.client;
            if !shown.is_connected {
                return Some(format!("{client} is in a room and no node is connected"));
            }
            let others = || {
                let others = self.shown.values();
                others.filter(|other| other.tenant == shown.tenant && other.client != client)
            };
            let due: BTreeMap<String, Vec<String>> = others()
                .filter_map(|other| {
                    let (_, moves) = self.moves.get(&other.user)?;
                    Some((other.user.clone(), vec![moves.last()?.clone()]))
                })
                .collect();
            if shown.users != due {
                return Some(format!(
                    "{client} sees {:?} in its room, and there are {due:?}",
                    shown.users
                ));
            }
            let other = others().find(|other| other.status != shown.status)?;
            Some(format!(
                "{client} and {} see different states of their room: {:?} and {:?}",
                other.client, shown.status, other.status
            ))
        })
    }
}

impl Rooms {
    fn hear_message(&mut self, client: Client, tenant: TenantId, message: &RoomMessage) -> Result<(), String> {
        let text = &message.payload;
        let said = self.said(client, tenant, text)?;
        if let Some(to) = &said.to
            && self.moves.get(to).is_none_or(|(of, _)| *of != client)
        {
            return Err(format!("{client} heard {text}, which was for {to} alone"));
        }
        if !self.heard.insert((client, text.clone())) {
            return Err(format!("{client} heard {text} twice"));
        }
        Ok(())
    }

    /// By whom it was said, in the same tenant.
    fn said(&self, client: Client, tenant: TenantId, text: &str) -> Result<Rc<Said>, String> {
        match self.said.get(text) {
            None => Err(format!("{client} was told {text}, which nobody said")),
            Some(said) if said.tenant != tenant => Err(format!(
                "{client} was told {text}, which {} said in another tenant",
                said.client
            )),
            Some(said) => Ok(said.clone()),
        }
    }

    fn check(&self, shown: &RoomShown, evidence: Evidence<'_>) -> Result<(), String> {
        let client = shown.client;
        for text in shown.status.values() {
            self.said(client, shown.tenant, text)?;
        }
        for (user, presences) in &shown.users {
            let Some((of, moves)) = self.moves.get(user) else {
                return Err(format!("{client} sees {user} in its room, who never came"));
            };
            let tenant = |client: Client| evidence.stage.plan.client(client).map(|planned| planned.tenant);
            if tenant(*of) != tenant(client) {
                return Err(format!("{client} sees {user} in its room, who is of another tenant"));
            }
            if let Some(never) = presences.iter().find(|presence| !moves.contains(presence)) {
                return Err(format!("{client} sees {user} do {never}, who never did"));
            }
        }
        Ok(())
    }
}
