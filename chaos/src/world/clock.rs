//! Time: the simulation's own, and what each host's clock makes of it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use halcyon_core::{clock::WallTime, env::WallClock};

use super::machine::Machine;

/// Time of day, since 1970, when every simulation begins (2027-01-15).
pub const EPOCH: Duration = Duration::from_hours(500_000);

/// One step of the simulation, in milliseconds. Twice what tokio's timers are fine to: to step a host that has nothing to do
/// is most of what a run costs, and half as many steps cost half. Within its step a host's timers keep their own moments;
/// what it hears from others comes at the beginning of one.
pub const STEP_MILLIS: u64 = 2;

/// The same, in nanoseconds.
const STEP_NANOS: u64 = STEP_MILLIS * 1_000_000;

/// How often a host looks whether its clock's rate has changed.
const RATE_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How one clock lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lie {
    /// Nanoseconds that jumps have moved it.
    offset: i64,
    /// Nanoseconds that it gains in a millisecond: parts per million.
    drift_ppm: i64,
    /// When this drift began.
    since: u64,
    /// Nanoseconds that drift had brought before.
    gained: i64,
}

impl Lie {
    /// What drift has brought up to `now`.
    fn drifted(self, now: u64) -> i64 {
        let passed = i128::from(now.saturating_sub(self.since));
        let gained = passed * i128::from(self.drift_ppm) / 1_000_000;
        self.gained.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX))
    }
}

thread_local! {
    /// Simulated time at the end of the last step, for code that runs between the steps.
    static STEP: Cell<u64> = const { Cell::new(0) };
    /// Set while the time is being read: reading it may read a clock.
    static READING: Cell<bool> = const { Cell::new(false) };
    static LIES: RefCell<BTreeMap<Machine, Lie>> = const { RefCell::new(BTreeMap::new()) };
}

/// Simulated nanoseconds since the beginning, at the last step: for clocks that are read often and looked at rarely.
pub fn step() -> u64 {
    STEP.get()
}

/// Simulated nanoseconds since the beginning.
pub fn now() -> u64 {
    if READING.replace(true) {
        return STEP.get();
    }
    let in_runtime = tokio::runtime::Handle::try_current().is_ok();
    let elapsed = if in_runtime { turmoil::sim_elapsed() } else { None };
    READING.set(false);
    elapsed.map_or(STEP.get(), |elapsed| {
        let shown = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        // A host whose timers run ahead is further within its step than the step is long.
        shown.min(STEP.get() + STEP_NANOS)
    })
}

/// Has the timers of the calling host's runtime run as fast as its clock, for as long as the runtime lives.
///
/// turmoil gives every runtime a paused clock and moves all by one step at a time; a runtime can be moved further from
/// within, and never less. So timers run fast with a clock that runs fast, and at the true rate with one that runs slow.
pub async fn drive_timers(host: Machine) {
    let mut last = now();
    let mut ahead = 0_u64;
    loop {
        tokio::time::sleep(next_gain(host, ahead)).await;
        let now = now();
        let rate = lie_of(host).drift_ppm.max(0).unsigned_abs();
        ahead += now.saturating_sub(last) * rate / 1_000_000;
        last = now;
        let steps = ahead / STEP_NANOS;
        if steps > 0 {
            ahead %= STEP_NANOS;
            // What is left of this step as well: this moves the clock in place of the step that is being taken.
            let left = (STEP.get() + STEP_NANOS).saturating_sub(now);
            tokio::time::advance(Duration::from_nanos(steps * STEP_NANOS + left)).await;
        }
    }
}

/// How long until a host's timers are a whole step further ahead; not long, as its rate may change.
fn next_gain(host: Machine, ahead: u64) -> Duration {
    let rate = lie_of(host).drift_ppm.max(1).unsigned_abs();
    let left = STEP_NANOS.saturating_sub(ahead) * 1_000_000 / rate;
    Duration::from_nanos(left).clamp(Duration::from_nanos(STEP_NANOS), RATE_LOOK_INTERVAL)
}

/// Says where the simulation stands between two steps.
pub fn set_step(nanoseconds: u64) {
    STEP.set(nanoseconds);
}

/// Moves a host's clock by so much, for good.
pub fn jump(host: Machine, nanoseconds: i64) {
    change(host, |lie| lie.offset += nanoseconds);
}

/// Has a host's clock run fast (or slow, below zero) from now on, or keep pace at zero. It keeps what it gained.
pub fn drift(host: Machine, ppm: i64) {
    let now = STEP.get();
    change(host, |lie| {
        lie.gained = lie.drifted(now);
        lie.drift_ppm = ppm;
        lie.since = now;
    });
}

/// Sets a host's clock right.
pub fn set_right(host: Machine) {
    drift(host, 0);
    change(host, |lie| lie.offset = -lie.gained);
}

/// Nanoseconds that a host's clock is ahead of the true time.
pub fn ahead(host: Machine) -> i64 {
    let lie = lie_of(host);
    lie.offset.saturating_add(lie.drifted(now()))
}

/// Nanoseconds that the clocks of hosts are ahead of the true time: the least and the most.
pub fn hosts_ahead() -> (i64, i64) {
    let hosts = LIES.with_borrow(|lies| lies.keys().copied().collect::<Vec<_>>());
    let hosts = hosts.into_iter().filter(|machine| matches!(machine, Machine::Host(_)));
    let ahead: Vec<i64> = hosts.map(ahead).collect();
    let ends = ahead.iter().min().zip(ahead.iter().max());
    ends.map_or((0, 0), |(least, most)| (*least, *most))
}

/// How far apart the clocks of any two hosts are.
pub fn hosts_apart() -> Duration {
    let (least, most) = hosts_ahead();
    Duration::from_nanos(most.abs_diff(least))
}

fn lie_of(host: Machine) -> Lie {
    LIES.with_borrow(|lies| lies.get(&host).copied().unwrap_or_default())
}

fn change(host: Machine, change: impl FnOnce(&mut Lie)) {
    LIES.with_borrow_mut(|lies| change(lies.entry(host).or_default()));
}

/// The clock of one host.
#[derive(Debug)]
pub struct HostClock(pub Machine);

impl WallClock for HostClock {
    fn wall(&self) -> WallTime {
        let true_time = EPOCH + Duration::from_nanos(now());
        let ahead = ahead(self.0);
        let distance = Duration::from_nanos(ahead.unsigned_abs());
        let shown = if ahead < 0 {
            true_time.saturating_sub(distance)
        } else {
            true_time + distance
        };
        WallTime::from_unix(shown)
    }

    /// Drift is felt here as well; a jump is not.
    fn monotonic(&self) -> Duration {
        let now = now();
        Duration::from_nanos(now.saturating_add_signed(lie_of(self.0).drifted(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_jumps_and_drifts_and_keeps_what_it_gained() {
        let host = Machine::Host(1);
        let check = |seconds: i64, what: &str| assert_eq!(ahead(host), seconds * 1_000_000_000, "{what}");
        set_step(0);
        check(0, "right at first");
        jump(host, 2_000_000_000);
        check(2, "jumped");
        drift(host, 100_000);
        set_step(10_000_000_000);
        check(3, "a tenth faster for ten seconds");
        drift(host, 0);
        set_step(20_000_000_000);
        check(3, "kept");
        assert_eq!(HostClock(host).monotonic(), Duration::from_secs(21), "no jump in it");
        set_right(host);
        check(0, "set right");
        assert_eq!(
            HostClock(host).monotonic(),
            Duration::from_secs(21),
            "it never goes back"
        );
        assert_eq!(ahead(Machine::Host(2)), 0, "another host's clock");
        jump(host, 2_000_000_000);
        jump(Machine::Host(2), -1_000_000_000);
        jump(Machine::Client(1), 9_000_000_000);
        assert_eq!(hosts_ahead(), (-1_000_000_000, 2_000_000_000), "clients are no hosts");
        assert_eq!(hosts_apart(), Duration::from_secs(3), "nor here");
    }
}
