//! What a simulated disk keeps and loses.

use super::*;

fn disk() -> SimDisk {
    SimDisk::new(1, Machine::Host(1))
}

fn read(disk: &SimDisk, name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.open(name).unwrap().read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_synced_survives_and_the_rest_survives_in_sectors() {
    let fates: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let disk = SimDisk::new(seed, Machine::Host(1));
            let file = disk.open("a").unwrap();
            file.write(0, &[1; 1_024]).unwrap();
            file.sync().unwrap();
            file.write(0, &[2; 1_024]).unwrap();
            disk.crash();
            disk.power_on();
            let bytes = read(&disk, "a", 1_024);
            assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]), "no sector is torn");
            vec![bytes[0], bytes[1_023]]
        })
        .collect();
    let all = [[1, 1], [1, 2], [2, 1], [2, 2]].map(Vec::from);
    assert_eq!(fates, BTreeSet::from(all), "lost, torn both ways, kept");
}

#[test]
fn a_handle_from_before_a_crash_is_dead_for_good() {
    let disk = disk();
    let file = disk.open("a").unwrap();
    file.write(0, b"x").unwrap();
    disk.crash();
    disk.power_on();
    assert!(file.write(0, b"y").is_err());
    assert!(file.sync().is_err());
    let again = disk.open("a").unwrap();
    drop(file);
    assert!(disk.open("a").is_err(), "the dead handle's end frees nothing");
    drop(again);
    disk.open("a").unwrap();
}

#[test]
fn power_fails_in_the_middle_of_a_row_of_writes() {
    let disk = disk();
    let file = disk.open("a").unwrap();
    disk.ail(|ailment| ailment.cut_after = Some(2));
    file.write(0, b"1").unwrap();
    file.sync().unwrap();
    assert!(file.write(0, b"2").is_err());
    assert!(disk.is_off());
    assert!(disk.write_small("b", b"3", Access::Normal).is_err());
    disk.crash();
    disk.power_on();
    assert_eq!(read(&disk, "a", 1), b"1");
    assert_eq!(disk.read_small("b").unwrap(), None);
}

#[test]
fn a_full_disk_takes_no_growth_but_takes_back_what_it_has() {
    let disk = disk();
    let file = disk.open("a").unwrap();
    file.set_len(100).unwrap();
    disk.ail(|ailment| ailment.capacity = Some(150));
    file.write(50, &[7; 50]).unwrap();
    let error = file.write(90, &[7; 100]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.ail(|ailment| ailment.capacity = None);
    file.write(90, &[7; 100]).unwrap();
}

#[test]
fn an_earlier_state_comes_back_and_rot_changes_one_bit() {
    let disk = disk();
    let file = disk.open("data-0").unwrap();
    file.write(0, &[5; 8_192]).unwrap();
    file.sync().unwrap();
    disk.write_small("identity", b"me", Access::Secret).unwrap();
    let image = disk.image();
    file.write(0, &[6; 8_192]).unwrap();
    file.sync().unwrap();
    disk.crash();
    disk.restore(&image, "");
    disk.power_on();
    assert_eq!(read(&disk, "data-0", 8_192), [5; 8_192]);
    assert_eq!(disk.read_small("identity").unwrap().unwrap(), b"me");
    assert_ne!(disk.rot("data", 1), "");
    let bits: u32 = read(&disk, "data-0", 8_192)
        .iter()
        .map(|byte| (byte ^ 5).count_ones())
        .sum();
    assert_eq!(bits, 1);
    assert_eq!(disk.find(&[5; 64]).as_deref(), Some("data-0"));
    assert_eq!(disk.find(&[6; 64]), None);
}
