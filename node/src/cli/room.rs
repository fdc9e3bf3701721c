//! `halcyon room`: look into a room, and say something in it.

use clap::{Args, Subcommand};
use halcyon_client::rooms::{Room, RoomChanges, RoomError};
use serde_json::{Value as Json, json};

use super::{
    Globals, connect,
    data::TenantArg,
    failure::Failure,
    output::{self, Tone},
};

/// See there.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// Enter a room and show what happens in it
    Watch(RoomWatch),
    /// Say something to everybody in a room, or set fields of its status
    Send(RoomSend),
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon room watch --tenant demo doc-1
  halcyon room watch --tenant demo doc-1 --user ann --presence '{\"x\": 1}' --json

With --json each line is an event: users, status and messages as they are after it. Ctrl-C leaves the room.")]
pub struct RoomWatch {
    #[command(flatten)]
    tenant: TenantArg,
    /// The room; it is made if nobody is in it
    room: String,
    /// As whom to enter
    #[arg(long, default_value = "halcyon")]
    user: String,
    /// What the others are shown, in JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    presence: String,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon room send --tenant demo doc-1 --topic ping '{\"at\": 7}'
  halcyon room send --tenant demo doc-1 --status mode='\"review\"'

Whoever is not in the room at that moment does not hear it.")]
pub struct RoomSend {
    #[command(flatten)]
    tenant: TenantArg,
    /// The room
    room: String,
    /// What to say, in JSON
    #[arg(value_name = "JSON", required_unless_present = "status")]
    payload: Option<String>,
    /// About what
    #[arg(long, default_value = "")]
    topic: String,
    /// A field of the room's status to set; without a value it is unset
    #[arg(long, value_name = "FIELD=JSON")]
    status: Vec<String>,
}

/// Runs it.
pub async fn run(command: RoomCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        RoomCommand::Watch(args) => watch(args, globals).await,
        RoomCommand::Send(args) => send(args, globals).await,
    }
}

async fn watch(args: RoomWatch, globals: &Globals) -> Result<(), Failure> {
    let presence = checked(&args.presence)?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let entered = client.room(&args.room).enter(&args.user, &presence).await;
    let mut room = entered.map_err(room_failure)?;
    output::note(format!("in room {} (Ctrl-C leaves it)", room.id()));
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let changes = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            changes = room.next() => changes,
        };
        let Some(changes) = changes else { break };
        left -= 1;
        if globals.json {
            output::json(&event(&room, &changes));
        } else {
            show(&room, &changes);
        }
        output::flush();
    }
    let left = room.leave().await.map_err(room_failure);
    client.close().await;
    left
}

async fn send(args: RoomSend, globals: &Globals) -> Result<(), Failure> {
    let payload = args.payload.as_deref().map(checked).transpose()?;
    let mut fields = Vec::new();
    for field in &args.status {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let value = if value.is_empty() { None } else { Some(checked(value)?) };
        fields.push((key, value));
    }
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let room = client
        .room(&args.room)
        .enter("halcyon", "{}")
        .await
        .map_err(room_failure)?;
    if !fields.is_empty() {
        let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.as_deref())).collect();
        room.set_status(&fields).await.map_err(room_failure)?;
    }
    if let Some(payload) = payload {
        room.send(&args.topic, &payload, &[]).await.map_err(room_failure)?;
    }
    let left = room.leave().await.map_err(room_failure);
    client.close().await;
    left
}

/// A room as it is now, and what was said.
fn event(room: &Room, changes: &RoomChanges) -> Json {
    let users = room.users().into_iter().map(|user| {
        json!({ "connection": user.connection, "user": user.user, "region": user.region,
                "presence": parsed(&user.presence) })
    });
    let messages = changes.messages.iter().map(|message| {
        json!({ "topic": message.topic, "from": message.from, "payload": parsed(&message.payload),
                "timestamp": message.timestamp.map(|timestamp| timestamp.to_string()) })
    });
    let status: serde_json::Map<String, Json> = room.read(|view| {
        view.fields()
            .map(|(key, value)| (key.to_owned(), parsed(value)))
            .collect()
    });
    json!({ "whole": changes.whole, "users": users.collect::<Vec<_>>(), "status": status,
            "messages": messages.collect::<Vec<_>>(), "missed": changes.missed })
}

fn show(room: &Room, changes: &RoomChanges) {
    let named = |connection: &str| {
        let known = room.users().into_iter().find(|user| user.connection == connection);
        known.map_or_else(
            || connection.to_owned(),
            |user| format!("{} ({})", user.user, user.region),
        )
    };
    let say = |tone, what: &str, text: String| output::line(format!("{}  {text}", output::tint(tone, what)));
    for connection in &changes.came {
        say(Tone::Good, "came  ", named(connection));
    }
    for connection in &changes.moved {
        let presence = room.read(|view| view.user(connection).map(|user| user.presence.clone()));
        say(
            Tone::Quiet,
            "does  ",
            format!("{}  {}", named(connection), presence.unwrap_or_default()),
        );
    }
    for user in &changes.gone {
        say(Tone::Quiet, "went  ", format!("{} ({})", user.user, user.region));
    }
    for key in &changes.status {
        say(
            Tone::Quiet,
            "status",
            format!("{key} = {}", room.status(key).unwrap_or_default()),
        );
    }
    for message in &changes.messages {
        let from = named(&message.from);
        say(
            Tone::Good,
            "says  ",
            format!("{from}  {} {}", message.topic, message.payload),
        );
    }
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn checked(text: &str) -> Result<String, Failure> {
    let parsed: Result<Json, _> = serde_json::from_str(text);
    parsed.map_err(|error| Failure::usage(format_args!("{text} is not JSON: {error}")))?;
    Ok(text.to_owned())
}

/// What a call about a room failed of.
pub fn room_failure(error: RoomError) -> Failure {
    match &error {
        RoomError::Refused(refusal) => connect::refusal_failure(refusal),
        RoomError::Lost(_) => Failure::unreachable(error),
        RoomError::Closed => Failure::failed(error),
    }
}
