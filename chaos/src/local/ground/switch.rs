//! Between namespaces on a kernel without netem: every namespace has a TUN device, and this switch carries packets from
//! one to the other as the links say. Real TCP runs over it and meets real loss.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use halcyon_core::env::Entropy;
use tokio::sync::mpsc;
use tun_rs::AsyncDevice;

use super::wire::Wire;
use crate::local::{
    clock,
    limits::{WIRE_PACKETS_MAX, WIRE_QUEUE_MAX},
    links::Links,
};

/// Bytes in a packet at the most: Ethernet's, as on the way between regions.
const PACKET_BYTES_MAX: usize = 1_500;

/// Where an IPv4 header has the last byte of the destination.
const DESTINATION_LAST_BYTE: usize = 19;

type Devices = Arc<Mutex<BTreeMap<usize, Arc<AsyncDevice>>>>;

/// Packets on their way, in the order of arrival.
type Sent = mpsc::Sender<(Duration, Vec<u8>)>;

/// Carries packets between the devices that were plugged in.
#[derive(Clone)]
pub(super) struct Switch {
    links: Links,
    devices: Devices,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switch")
    }
}

impl Switch {
    /// A switch without devices.
    pub(super) fn new(links: Links, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            links,
            devices: Devices::default(),
            entropy,
        }
    }

    /// Takes over the device of a node's namespace, and carries what comes out of it until the device is gone.
    pub(super) fn plug_in(&self, node: usize, device: tun_rs::SyncDevice) -> io::Result<()> {
        let device = Arc::new(AsyncDevice::new(device)?);
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.insert(node, device.clone());
        tokio::spawn(self.clone().run(node, device));
        Ok(())
    }

    async fn run(self, from: usize, device: Arc<AsyncDevice>) {
        let mut wires: BTreeMap<usize, (Wire, Sent)> = BTreeMap::new();
        let mut packet = vec![0; PACKET_BYTES_MAX];
        while let Ok(bytes) = device.recv(&mut packet).await {
            let Some(to) = destination(&packet[..bytes]) else {
                continue;
            };
            let (wire, sent) = wires.entry(to).or_insert_with(|| (Wire::default(), self.lay_wire(to)));
            let at = (clock::now(), self.entropy.next());
            let arrival = wire.packet(self.links.get(from, to), bytes, at, WIRE_QUEUE_MAX);
            if let Some(arrival) = arrival {
                // A full wire drops, as a router does.
                let _ = sent.try_send((arrival, packet[..bytes].to_vec()));
            }
        }
    }

    fn lay_wire(&self, to: usize) -> Sent {
        let (sent, mut arriving) = mpsc::channel::<(Duration, Vec<u8>)>(WIRE_PACKETS_MAX);
        let devices = self.devices.clone();
        tokio::spawn(async move {
            while let Some((arrival, packet)) = arriving.recv().await {
                clock::sleep_until(arrival).await;
                let device = devices.lock().unwrap_or_else(PoisonError::into_inner).get(&to).cloned();
                if let Some(device) = device {
                    let _ = device.send(&packet).await;
                }
            }
        });
        sent
    }
}

/// The node that an IPv4 packet goes to: addresses end in its place plus one.
fn destination(packet: &[u8]) -> Option<usize> {
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let last = packet.get(DESTINATION_LAST_BYTE).filter(|_| is_ipv4)?;
    usize::from(*last).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_goes_where_its_header_says() {
        let mut packet = vec![0_u8; 40];
        packet[0] = 0x45;
        packet[DESTINATION_LAST_BYTE] = 3;
        assert_eq!(destination(&packet), Some(2));
        assert_eq!(destination(&packet[..10]), None);
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None);
    }
}
