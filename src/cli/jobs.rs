//! Work on several things at the same time.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What a verb costs this computer, which decides how many machines it works on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// It waits for guests and for libvirt.
    Waiting,
    /// It evaluates with Nix, builds, and waits for a guest.
    Building,
    /// It reads whole disks or archives, and compresses with up to three threads each.
    Packing,
}

impl Cost {
    /// Returns how many machines are worked on at the same time where nobody says how many.
    pub fn jobs(self, cores: NonZeroUsize) -> NonZeroUsize {
        let jobs = match self {
            // They take no processor here. Each has a connection or two, and libvirtd serves 20 calls at a time
            // (`max_workers` in libvirtd.conf); more would wait for each other there.
            Cost::Waiting => 20,
            // An evaluation takes a core for 7 to 9 s and 1 GB of memory (measured, nixpkgs 26.11pre).
            Cost::Building => cores.get().min(4),
            // While one waits for its disk, the cores compress for another.
            Cost::Packing => (cores.get() / 2).min(4),
        };
        NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN)
    }
}

pub fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Does the work with each of the items, `jobs` at the same time, and returns what it returned, in the order of the items.
/// `None` stands for an item whose turn came when `go_on` was false.
pub fn at_once<I: Send, R: Send>(
    jobs: NonZeroUsize,
    items: Vec<I>,
    go_on: impl Fn() -> bool + Sync,
    work: impl Fn(I) -> R + Sync,
) -> Vec<Option<R>> {
    let (count, threads) = (items.len(), jobs.get().min(items.len()));
    let waiting = Mutex::new(items.into_iter().enumerate());
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let done = Mutex::new(std::iter::repeat_with(|| None).take(count).collect::<Vec<_>>());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while go_on()
                    && let Some((index, item)) = take()
                {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn jobs(jobs: usize) -> NonZeroUsize {
        NonZeroUsize::new(jobs).unwrap()
    }

    #[test]
    fn ten_that_hang_take_the_time_of_one() {
        let limit = Duration::from_millis(300);
        let began = Instant::now();
        let hang = |number: u32| {
            thread::sleep(limit);
            number
        };
        let done = at_once(Cost::Waiting.jobs(jobs(2)), (0..10).collect(), || true, hang);
        assert_eq!(done, (0..10).map(Some).collect::<Vec<_>>());
        assert!(began.elapsed() < 3 * limit, "{:?}", began.elapsed());
    }

    #[test]
    fn never_more_than_so_many_are_worked_on() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::SeqCst);
        };
        at_once(jobs(3), vec![(); 12], || true, work);
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn what_runs_is_finished_and_nothing_is_begun_after_a_stop() {
        let begun = AtomicUsize::new(0);
        let work = |number: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(50));
            number
        };
        let done = at_once(jobs(2), (0..10).collect(), || begun.load(Ordering::SeqCst) == 0, work);
        let finished = done.iter().flatten().count();
        assert_eq!(finished, begun.into_inner());
        assert!((1..=2).contains(&finished), "{done:?}");
    }

    #[test]
    fn what_costs_more_is_done_with_fewer_at_the_same_time() {
        let all =
            |cores| [Cost::Waiting, Cost::Building, Cost::Packing].map(|cost| cost.jobs(jobs(cores)).get());
        assert_eq!(all(1), [20, 1, 1]);
        assert_eq!(all(4), [20, 4, 2]);
        assert_eq!(all(64), [20, 4, 4]);
    }
}
