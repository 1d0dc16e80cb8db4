//! A base image that one nixvm deletes while another makes a machine on it, in all orders of their steps.

use std::fs::File;

use super::super::Pool;
use super::{Trial, header};

const BASE: &str = "nixvm-base-00000000000000000000000000000000.qcow2";

/// Carries out what one nixvm does that deletes a base (`d`) and another that makes a machine on it (`f`), in that order of
/// their steps; returns whether the machine has its base at the end. `None`, if the order is one that cannot be: the finder
/// would have waited.
fn meet(pool: &Pool, order: &str, waits: bool) -> Option<bool> {
    let boot = "db.boot-1.qcow2";
    for volume in [boot, BASE] {
        pool.delete_raw(volume).unwrap();
    }
    let base = [header(""), b"base".to_vec()].concat();
    pool.put_bytes(BASE, &base).unwrap();
    let (mut condemned, mut unneeded, mut step) = (None, false, [0, 0]);
    for who in order.chars() {
        let step = &mut step[usize::from(who == 'f')];
        *step += 1;
        match (who, *step) {
            ('d', 1) => condemned = Some(pool.condemn(BASE).unwrap()),
            ('d', 2) => unneeded = !pool.backing_of_all().unwrap().values().any(|below| below == BASE),
            ('d', 3) if unneeded => drop(condemned.take().unwrap().delete().unwrap()),
            ('d', 3) => condemned = None,
            ('f', 1) => drop(pool.put_bytes(boot, &header(BASE)).unwrap()),
            ('f', 2) if !waits => {}
            ('f', 2) if condemned.is_some() => return None,
            ('f', 2) => pool.wait_while_condemned(BASE).unwrap(),
            _ => drop(pool.put_bytes(BASE, &base).unwrap()),
        }
    }
    Some(pool.is_whole(BASE).unwrap())
}

/// Returns all orders in which so many steps of the one and of the other can be taken.
fn orders(d: usize, f: usize) -> Vec<String> {
    let mut all = Vec::new();
    for (who, (d, f)) in [("d", (d.checked_sub(1), Some(f))), ("f", (Some(d), f.checked_sub(1)))] {
        if let (Some(d), Some(f)) = (d, f) {
            all.extend(orders(d, f).into_iter().map(|rest| format!("{who}{rest}")));
        }
    }
    if all.is_empty() { vec![String::new()] } else { all }
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_base_that_was_found_is_there_whoever_deletes_it_meanwhile() {
    let trial = Trial::new("nixvm-t-condemned");
    let pool = &trial.0;
    let orders = orders(3, 3);
    assert_eq!(orders.len(), 20);
    let met: Vec<Option<bool>> = orders.iter().map(|order| meet(pool, order, true)).collect();
    assert!(
        met.iter().all(|has_base| *has_base != Some(false)),
        "{:?}",
        orders.iter().zip(&met).collect::<Vec<_>>()
    );
    assert!(met.iter().filter(|met| met.is_some()).count() > 5);
    // Without the wait a machine loses its base.
    assert!(orders.iter().any(|order| meet(pool, order, false) == Some(false)));
    assert!(pool.volumes().unwrap().iter().all(|name| !name.ends_with(".part")));
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_mark_is_waited_for_and_one_of_the_dead_is_not() {
    let trial = Trial::new("nixvm-t-marks");
    let pool = &trial.0;
    pool.put_bytes(BASE, &header("")).unwrap();
    let second = std::time::Duration::from_secs(1);
    std::thread::scope(|scope| {
        let condemned = pool.condemn(BASE).unwrap();
        let finder = scope.spawn(|| {
            let connection = crate::libvirt::connect("qemu:///system").unwrap();
            Pool::find(&connection, "nixvm-t-marks").unwrap().unwrap().wait_while_condemned(BASE).unwrap();
        });
        std::thread::sleep(2 * second);
        assert!(!finder.is_finished());
        assert!(condemned.delete().unwrap());
        finder.join().unwrap();
    });
    assert!(!pool.is_whole(BASE).unwrap());

    // Of a nixvm that was killed, by a host whose clock went back or on since.
    pool.put_bytes(BASE, &header("")).unwrap();
    let now = std::time::SystemTime::now();
    for then in [now - 3600 * second, now + 3600 * second] {
        let condemned = pool.condemn(BASE).unwrap();
        let mark = pool.volumes().unwrap().into_iter().find(|name| name.ends_with(".part")).unwrap();
        File::options().write(true).open(trial.file(&mark)).unwrap().set_modified(then).unwrap();
        pool.refresh().unwrap();
        pool.wait_while_condemned(BASE).unwrap();
        assert!(!condemned.delete().unwrap(), "it was taken for dead, and deletes what was found since");
        assert!(pool.is_whole(BASE).unwrap());
    }
    let here = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(pool.now().unwrap().unwrap().abs_diff(here) < 60);
}
