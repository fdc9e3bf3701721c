//! The browser package and the example apps, by their own script: in Node, packed and installed into empty projects, and in
//! Chromium, against the binary that these tests are of. The script says what it does while it does it.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command},
    time::Duration,
};

use halcyon_tests::{binary, tidy, wait};
use rustix::process::{Pid, Signal, kill_process_group};

/// Five minutes on two cores that do nothing else. Half an hour more is for machines that do.
const WITHIN: Duration = Duration::from_mins(35);

/// What it ends with where something that it needs cannot be had; it has said what.
const CANNOT_BE_HAD: i32 = 77;

#[test]
fn the_browser_package_and_the_example_apps_pass_their_own_tests() {
    let mut script = Script::start();
    let ended = wait::until("client/web/test.sh ends", WITHIN, || {
        script.0.try_wait().expect("a child can be waited for")
    });
    if ended.code() != Some(CANNOT_BE_HAD) {
        assert!(ended.success(), "client/web/test.sh: {ended}, see above");
    }
}

/// Dropped, it is ended with all that it has started.
struct Script(Child);

impl Script {
    fn start() -> Self {
        let mut command = Command::new(tidy::repository().join("client/web/test.sh"));
        let child = command.env("HALCYON", binary::halcyon()).process_group(0).spawn();
        Self(child.expect("the script can be run"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // It may have ended by itself meanwhile.
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}
