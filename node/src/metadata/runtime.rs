//! What openraft runs on: tokio, with all chance drawn from [`Entropy`].
//!
//! openraft asks its runtime for a generator through a function without an argument, so the source cannot travel in a
//! value. A thread's own source wins ([`set_thread_entropy`]: the simulator, which runs all nodes of one seed on one
//! thread); otherwise the process's ([`set_process_entropy`]: set by [`super::Metadata::start`] from `Env::entropy`,
//! once; later nodes in the same process share it).

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use halcyon_core::env::Entropy;
use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use rand::{SeedableRng, rngs::SmallRng};

thread_local! {
    static OF_THREAD: RefCell<Option<Arc<dyn Entropy>>> = const { RefCell::new(None) };
}

static OF_PROCESS: OnceLock<Arc<dyn Entropy>> = OnceLock::new();

/// Lets all Raft nodes of this thread draw from `entropy`, so that a seed replays their elections.
pub fn set_thread_entropy(entropy: Arc<dyn Entropy>) {
    OF_THREAD.with(|slot| *slot.borrow_mut() = Some(entropy));
}

/// Lets all Raft nodes of this process draw from `entropy`. The first call counts.
pub fn set_process_entropy(entropy: Arc<dyn Entropy>) {
    // A second node of the same process draws from the first one's source: chance is chance.
    let _ = OF_PROCESS.set(entropy);
}

fn draw() -> u64 {
    let of_thread = OF_THREAD.with(|slot| slot.borrow().as_ref().map(|entropy| entropy.next()));
    of_thread.unwrap_or_else(|| {
        let of_process = OF_PROCESS.get().expect("Metadata::start sets it before it starts Raft");
        of_process.next()
    })
}

/// tokio with seeded chance.
pub struct Runtime(TokioRuntime);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(draw())
    }

    /// Runs in place: our storage goes through `Env::run_blocking`, and nothing else may bring a thread back in.
    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        std::future::ready(Ok(work()))
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
