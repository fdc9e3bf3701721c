//! The door: functions that JavaScript calls, with one buffer for what goes in and one for what comes out.
//!
//! JavaScript asks for room with [`halcyon_input`], writes there, calls a function, and reads [`halcyon_output`] for as
//! many bytes as the function returned; a negative number is an error, whose text lies there. No pointer is taken, so
//! nothing here can be handed a wrong one. A module holds one engine: one for each database.

#![expect(
    unsafe_code,
    reason = "a name that is exported as it is counts as unsafe; nothing else here is"
)]

use std::cell::RefCell;

use crate::{Engine, Record, wire};

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
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

/// Room for what goes in.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_input(length: usize) -> *mut u8 {
    INPUT.with_borrow_mut(|input| {
        input.clear();
        input.resize(length, 0);
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

fn with(run: impl FnOnce(&mut Engine, &[u8]) -> Answer) -> i32 {
    let input = INPUT.take();
    give(ENGINE.with_borrow_mut(|engine| match engine {
        Some(engine) => run(engine, &input),
        None => Err("the engine is not open".to_owned()),
    }))
}

fn text(input: &[u8]) -> Result<&str, String> {
    str::from_utf8(input).map_err(|error| error.to_string())
}

/// Opens an engine for the tenant that is named in the input, as the client of these 128 random bits.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_open(high: u64, low: u64) -> i32 {
    let input = INPUT.take();
    give(text(&input).map(|tenant| {
        let client = u128::from(high) << 64 | u128::from(low);
        ENGINE.set(Some(Engine::new(tenant, client)));
        Vec::new()
    }))
}

/// See [`Engine::restore`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_restore(store: u32, key: u64) -> i32 {
    with(|engine, input| {
        let record = Record {
            store: u8::try_from(store).map_err(|error| error.to_string())?,
            key,
            bytes: Some(input.to_vec()),
        };
        engine.restore(&record).map_err(|error| error.to_string())?;
        Ok(Vec::new())
    })
}

/// See [`Engine::write`]. Gives the place as text.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_write(wall_millis: u64) -> i32 {
    with(|engine, input| {
        let place = engine.write(text(input)?, wall_millis);
        Ok(place.map_err(|error| error.to_string())?.to_string().into_bytes())
    })
}

/// See [`Engine::durable`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_durable(up_to: u64) -> i32 {
    with(|engine, _| {
        engine.durable(up_to);
        Ok(Vec::new())
    })
}

/// See [`Engine::subscribe`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_subscribe(id: u32) -> i32 {
    with(|engine, input| {
        engine.subscribe(id, text(input)?).map_err(|error| error.to_string())?;
        Ok(Vec::new())
    })
}

/// See [`Engine::unsubscribe`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_unsubscribe(id: u32) -> i32 {
    with(|engine, _| {
        engine.unsubscribe(id);
        Ok(Vec::new())
    })
}

/// See [`Engine::entity`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_entity() -> i32 {
    with(|engine, input| Ok(engine.entity(text(input)?).into_bytes()))
}

/// See [`Engine::next_push`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_next_push() -> i32 {
    with(|engine, _| Ok(engine.next_push()))
}

/// See [`Engine::on_pushed`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_pushed() -> i32 {
    with(|engine, input| {
        let answer = engine.on_pushed(input).map_err(|error| error.to_string())?;
        Ok(answer.into_bytes())
    })
}

/// See [`Engine::on_push_refused`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_push_refused() -> i32 {
    with(|engine, input| Ok(engine.on_push_refused(input).into_bytes()))
}

/// See [`Engine::watch`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_watch() -> i32 {
    with(|engine, _| Ok(engine.watch()))
}

/// See [`Engine::on_watched`]. Gives one byte if the confirmed state is up to date.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_watched(wall_millis: u64) -> i32 {
    with(|engine, input| {
        let is_current = engine.on_watched(input, wall_millis);
        let is_current = is_current.map_err(|error| error.to_string())?;
        Ok(vec![1; usize::from(is_current)])
    })
}

/// See [`Engine::take_news`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_take_news() -> i32 {
    with(|engine, _| Ok(engine.take_news()))
}

/// See [`Engine::take_records`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_take_records() -> i32 {
    with(|engine, _| {
        let mut out = Vec::new();
        for record in engine.take_records() {
            record.encode_to(&mut out);
        }
        Ok(out)
    })
}

/// See [`Engine::waiting`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_waiting() -> i32 {
    with(|engine, _| Ok(engine.waiting().to_string().into_bytes()))
}

/// See [`Engine::fingerprint`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_fingerprint() -> i32 {
    with(|engine, _| Ok(engine.fingerprint().into_bytes()))
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
    let json = wire::hello_json(&input).map_err(|error| error.to_string());
    give(json.map(|json| json.to_string().into_bytes()))
}

/// The body of `Locate` for the tenant named in the input.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_locate() -> i32 {
    let input = INPUT.take();
    give(text(&input).map(wire::locate))
}

/// What `Locate` answered, as JSON.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_on_located() -> i32 {
    let input = INPUT.take();
    let json = wire::locate_json(&input).map_err(|error| error.to_string());
    give(json.map(|json| json.to_string().into_bytes()))
}

/// The refusal in a status' details, as JSON.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn halcyon_error() -> i32 {
    let input = INPUT.take();
    give(Ok(wire::error_json(&input).to_string().into_bytes()))
}
