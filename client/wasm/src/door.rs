//! The door: functions that JavaScript calls, with one buffer for what goes in and one for what comes out.
//!
//! JavaScript asks for room with [`halcyon_input`], writes there, calls a function, and reads [`halcyon_output`] for as
//! many bytes as the function returned; a negative number is an error, whose text lies there. No pointer is taken, so
//! nothing here can be handed a wrong one. A module holds one client: one for each database.

#![expect(
    unsafe_code,
    reason = "a name that is exported as it is counts as unsafe; nothing else here is"
)]

use std::{cell::RefCell, fmt::Display, time::Duration};

use crate::{
    Client,
    client::{REOPEN, moment},
    room, wire,
};

thread_local! {
    static CLIENT: RefCell<Option<Client>> = const { RefCell::new(None) };
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// uhlc would draw ids with it; we always give one. Refusing is the honest answer.
#[cfg(target_arch = "wasm32")]
fn no_chance(_: &mut [u8]) -> Result<(), getrandom::Error> {
    Err(getrandom::Error::UNSUPPORTED)
}
#[cfg(target_arch = "wasm32")]
getrandom::register_custom_getrandom!(no_chance);

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Room for what goes in.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_input(length: usize) -> *mut u8 {
    INPUT.with_borrow_mut(|input| {
        // A disk gives megabytes: zeroed at once, not byte by byte.
        *input = vec![0; length];
        input.as_mut_ptr()
    })
}

/// What came out.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_output() -> *const u8 {
    OUTPUT.with_borrow(Vec::as_ptr)
}

type Answer = Result<Vec<u8>, String>;

fn give(answer: Answer) -> i32 {
    let (bytes, sign) = match answer {
        Ok(bytes) => (bytes, 1),
        Err(text) => (text.into_bytes(), -1),
    };
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    OUTPUT.set(bytes);
    // An error's text is never empty.
    sign * length
}

fn with(run: impl FnOnce(&mut Client, &[u8]) -> Answer) -> i32 {
    let input = INPUT.take();
    give(CLIENT.with_borrow_mut(|client| match client {
        Some(client) => run(client, &input),
        None => Err("the client is not open".to_owned()),
    }))
}

fn tell(run: impl FnOnce(&mut Client, &[u8])) -> i32 {
    with(|client, input| {
        run(client, input);
        Ok(Vec::new())
    })
}

fn said(error: impl Display) -> String {
    error.to_string()
}

fn text(input: &[u8]) -> Result<&str, String> {
    str::from_utf8(input).map_err(said)
}

/// Records that a disk kept, for the client that is opened next.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_records() -> i32 {
    RECORDS.set(INPUT.take());
    give(Ok(Vec::new()))
}

/// Opens a client for the tenant that is named in the input, with these 128 random bits. `saves`: there is a disk.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_open(high: u64, low: u64, saves: u32) -> i32 {
    let (input, records) = (INPUT.take(), RECORDS.take());
    give(text(&input).and_then(|tenant| {
        let client = u128::from(high) << 64 | u128::from(low);
        let client = Client::open(tenant, client, &records, saves != 0).map_err(said)?;
        let unreadable = client.unreadable();
        CLIENT.set(Some(client));
        Ok(unreadable.to_string().into_bytes())
    }))
}

/// See [`Client::write`]. Gives the place as text.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_write(wall_millis: u64, jitter: u32) -> i32 {
    with(|client, input| {
        let place = client.write(text(input)?, moment(wall_millis, jitter));
        Ok(place.map_err(said)?.to_string().into_bytes())
    })
}

/// See [`Client::durable`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_durable(up_to: u64) -> i32 {
    tell(|client, _| client.durable(up_to))
}

/// See [`Client::is_open`]. Gives one byte if so.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_is_open(place: u64) -> i32 {
    with(|client, _| Ok(vec![1; usize::from(client.is_open(place))]))
}

/// See [`Client::follow`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_follow(number: u32) -> i32 {
    with(|client, input| {
        client.follow(number, text(input)?).map_err(said)?;
        Ok(Vec::new())
    })
}

/// See [`Client::unfollow`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_unfollow(number: u32) -> i32 {
    tell(|client, _| client.unfollow(number))
}

/// See [`Client::take_news`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_take_news() -> i32 {
    with(|client, _| Ok(client.take_news()))
}

/// See [`Client::take_records`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_take_records() -> i32 {
    with(|client, _| Ok(client.take_records()))
}

/// See [`Client::before_push`]. Gives one byte if something changed.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_before_push(since_millis: u64, wall_millis: u64, jitter: u32) -> i32 {
    with(|client, _| {
        let since = Duration::from_millis(since_millis);
        let is_rewritten = client.before_push(since, moment(wall_millis, jitter));
        Ok(vec![1; usize::from(is_rewritten)])
    })
}

/// See [`Client::next_push`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_next_push() -> i32 {
    with(|client, _| Ok(client.next_push()))
}

/// See [`Client::on_pushed`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_pushed(wall_millis: u64, jitter: u32) -> i32 {
    with(|client, input| Ok(client.on_pushed(input, moment(wall_millis, jitter)).into_bytes()))
}

/// See [`Client::on_push_failed`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_push_failed(wall_millis: u64, jitter: u32) -> i32 {
    with(|client, input| {
        let moment = moment(wall_millis, jitter);
        Ok(client.on_push_failed(input, moment).into_bytes())
    })
}

/// See [`Client::connect`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_connect() -> i32 {
    with(|client, _| Ok(client.connect()))
}

/// See [`Client::on_event`]. Gives one byte: what the event asks for.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_event(wall_millis: u64, jitter: u32) -> i32 {
    with(|client, input| Ok(vec![client.on_event(input, moment(wall_millis, jitter))]))
}

/// See [`Client::on_disconnected`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_disconnected() -> i32 {
    tell(|client, _| client.on_disconnected())
}

/// See [`Client::forget_session`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_forget_session() -> i32 {
    tell(|client, _| client.forget_session())
}

/// See [`Client::next_call`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_next_call(jitter: u32) -> i32 {
    with(|client, _| Ok(client.next_call(jitter)))
}

/// See [`Client::on_subscribed`]. Gives one byte: whether the stream must be opened anew.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_subscribed(number: u32) -> i32 {
    with(|client, input| {
        client.on_subscribed(number, input);
        Ok(vec![if client.wants_reconnect() { REOPEN } else { 0 }])
    })
}

/// See [`Client::on_subscribe_failed`]. Gives one byte: whether the stream must be opened anew.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_subscribe_failed(number: u32) -> i32 {
    with(|client, input| {
        client.on_subscribe_failed(number, input);
        Ok(vec![if client.wants_reconnect() { REOPEN } else { 0 }])
    })
}

/// See [`Client::held`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_held() -> i32 {
    with(|client, _| Ok(client.held()))
}

/// See [`Client::on_held`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_held() -> i32 {
    with(|client, input| client.on_held(input).map(|()| Vec::new()).map_err(said))
}

/// See [`Client::at_node`]; the clock is what [`halcyon_on_hello`] gave, two zeros where that was nothing.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_at_node(node: u64, wall: u64, drift_max_millis: u64) -> i32 {
    tell(|client, _| client.at_node(node, wire::node_clock(wall, Some(drift_max_millis))))
}

/// See [`Client::waiting`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_waiting() -> i32 {
    with(|client, _| Ok(client.waiting().to_string().into_bytes()))
}

/// See [`Client::fingerprint`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_fingerprint() -> i32 {
    with(|client, _| Ok(client.fingerprint().into_bytes()))
}

/// The body of a call about a room; `room::call` has the kinds.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_room_call(kind: u32) -> i32 {
    with(|client, input| room::call(kind, client.tenant(), client.session(), text(input)?).map_err(said))
}

/// What happened in rooms, as JSON.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_room_news() -> i32 {
    with(|client, _| Ok(client.rooms().take_news().into_bytes()))
}

/// The client has left the room that is named in the input.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_room_left() -> i32 {
    with(|client, input| {
        client.rooms().forget(text(input)?);
        Ok(Vec::new())
    })
}

/// What `EnterRoom` answered: this connection's name in the room.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_entered() -> i32 {
    let input = INPUT.take();
    give(wire::entered(&input).map(String::into_bytes).map_err(said))
}

/// The body of `Hello`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_hello() -> i32 {
    give(Ok(wire::hello()))
}

/// What `Hello` answered, as JSON.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_hello() -> i32 {
    let input = INPUT.take();
    let json = wire::hello_json(&input).map_err(said);
    give(json.map(|json| json.to_string().into_bytes()))
}

/// The body of `Locate`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_locate() -> i32 {
    with(|client, _| Ok(wire::locate(client.tenant())))
}

/// See [`Client::on_located`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_located() -> i32 {
    with(|client, input| {
        let json = client.on_located(input).map_err(said)?;
        Ok(json.to_string().into_bytes())
    })
}

/// The refusal in a status' details, as JSON.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_error() -> i32 {
    let input = INPUT.take();
    give(Ok(wire::error_json(&input).to_string().into_bytes()))
}
