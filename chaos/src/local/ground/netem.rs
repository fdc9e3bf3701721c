//! The links as `tc` commands: on a node's interface one HTB class with a netem queue for each other node.

use std::time::Duration;

use crate::local::links::Link;

/// Packets in a netem queue: its own default of 1,000 is less than a fast link has on the way at 120 ms.
const QUEUE_PACKETS: &str = "10000";

/// A rate that limits nothing. A netem queue keeps the rate that a command does not name, so every command names one;
/// with one it also keeps packets in order.
const UNLIMITED: &str = "10gbit";

/// What a node's interface needs once.
pub(super) fn root(interface: &str) -> Vec<String> {
    words(&format!("qdisc add dev {interface} root handle 1: htb"))
}

/// What one more node on the other side needs once: a class, and a filter that leads to it.
pub(super) fn class(interface: &str, to: usize, address: &str) -> [Vec<String>; 2] {
    let class = class_of(to);
    [
        words(&format!(
            "class replace dev {interface} parent 1: classid 1:{class} htb rate {UNLIMITED}"
        )),
        words(&format!(
            "filter add dev {interface} parent 1: protocol ip prio 1 u32 match ip dst {address}/32 flowid 1:{class}"
        )),
    ]
}

/// The state of one direction.
pub(super) fn link(interface: &str, to: usize, link: Link) -> Vec<String> {
    let class = class_of(to);
    let loss = match link.loss_permille {
        _ if link.cut => " loss 100%".to_owned(),
        0 => String::new(),
        lost => format!(" loss {}.{}%", lost / 10, lost % 10),
    };
    let rate = link
        .bytes_per_second
        .map_or_else(|| UNLIMITED.to_owned(), |rate| format!("{}bit", rate * 8));
    let text = format!(
        "qdisc replace dev {interface} parent 1:{class} handle {class}: netem limit {QUEUE_PACKETS} delay {} {}{loss} rate {rate}",
        micros(link.latency),
        micros(link.jitter)
    );
    words(&text)
}

fn class_of(to: usize) -> usize {
    to + 10
}

fn micros(time: Duration) -> String {
    format!("{}us", time.as_micros())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::links::Links;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Link), expected: &str) {
        let links = Links::default();
        links.change(0, 2, change);
        assert_eq!(link("eth0", 2, links.get(0, 2)).join(" "), expected);
    }

    #[test]
    fn a_link_becomes_one_netem_command() {
        let healthy = "qdisc replace dev eth0 parent 1:12 handle 12: netem limit 10000 delay 115500us 5775us";
        check(|_| {}, &format!("{healthy} rate 10gbit"));
        check(|link| link.cut = true, &format!("{healthy} loss 100% rate 10gbit"));
        check(
            |link| link.loss_permille = 25,
            &format!("{healthy} loss 2.5% rate 10gbit"),
        );
        check(
            |link| link.bytes_per_second = Some(32_000),
            &format!("{healthy} rate 256000bit"),
        );
    }
}
