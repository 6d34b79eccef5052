//! A lane's queue: in order, bounded in bytes. One lane takes, many may offer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// How long items have waited, added up, up to `changed`.
    waited: Duration,
    changed: Instant,
    closed: bool,
    /// The lane found nothing, and nothing was pushed since.
    asked: bool,
}

/// What waits for a lane's next unit.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    bytes_max: usize,
    arrived: Notify,
    room: Condvar,
    asked: Condvar,
}

impl<T> Queue<T> {
    /// Holds items of `bytes_max` in all; one that is larger alone still passes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                bytes: 0,
                waited: Duration::ZERO,
                changed: Instant::now(),
                closed: false,
                asked: false,
            }),
            bytes_max,
            arrived: Notify::new(),
            room: Condvar::new(),
            asked: Condvar::new(),
        }
    }

    /// Adds an item, or gives it back when the queue is full or closed.
    ///
    /// # Errors
    /// The item itself.
    pub fn offer(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.closed || inner.bytes >= self.bytes_max {
            return Err(item);
        }
        inner.account();
        inner.push(item, bytes);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Adds items, each with its bytes, however full the queue is: for what must not be lost.
    pub fn push_all(&self, items: Vec<(T, usize)>) {
        let mut inner = self.inner.lock();
        inner.account();
        items.into_iter().for_each(|(item, bytes)| inner.push(item, bytes));
        inner.asked = false;
        drop(inner);
        self.arrived.notify_one();
    }

    /// Waits, on a thread of its own, until there is room or the queue is closed or `timeout` has passed.
    pub fn wait_for_room(&self, timeout: Duration) {
        let mut inner = self.inner.lock();
        if inner.bytes >= self.bytes_max && !inner.closed {
            self.room.wait_for(&mut inner, timeout);
        }
    }

    /// Waits, on a thread of its own, until the lane has found the queue empty since the last
    /// [`Self::push_all`], or the queue is closed or `timeout` has passed. Who hands over only
    /// then does so once for a unit, with all that has come meanwhile.
    pub fn wait_for_demand(&self, timeout: Duration) {
        let mut inner = self.inner.lock();
        if !inner.asked && !inner.closed {
            self.asked.wait_for(&mut inner, timeout);
        }
    }

    /// Whether the next offer would be refused.
    pub fn is_full(&self) -> bool {
        self.inner.lock().bytes >= self.bytes_max
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    /// How long items have waited here, added up.
    pub fn total_wait(&self) -> Duration {
        let mut inner = self.inner.lock();
        inner.account();
        inner.waited
    }

    /// Refuses further offers; what is in it can still be taken.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.arrived.notify_one();
        self.room.notify_all();
        self.asked.notify_all();
    }

    /// Takes from the front while `wanted` agrees.
    pub fn take_while(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut inner = self.inner.lock();
        inner.account();
        let mut taken = Vec::new();
        while let Some((item, _)) = inner.items.front() {
            if !wanted(item) {
                break;
            }
            if let Some((item, bytes)) = inner.items.pop_front() {
                inner.bytes -= bytes;
                taken.push(item);
            }
        }
        drop(inner);
        self.room.notify_all();
        taken
    }

    /// Waits until something can be taken; false when the queue is closed and empty. Cancellation
    /// loses nothing.
    pub async fn ready(&self) -> bool {
        loop {
            {
                let mut inner = self.inner.lock();
                if !inner.items.is_empty() {
                    return true;
                }
                if inner.closed {
                    return false;
                }
                if !inner.asked {
                    inner.asked = true;
                    self.asked.notify_one();
                }
            }
            self.arrived.notified().await;
        }
    }
}

impl<T> Inner<T> {
    /// Adds the time since the last change to what has waited: once for each item, before any comes or goes.
    fn account(&mut self) {
        let now = Instant::now();
        self.waited += (now - self.changed) * u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        self.changed = now;
    }

    fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back((item, bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::Queue;

    /// The test hangs instead of passing when nothing ends the wait.
    const FOR_EVER: Duration = Duration::MAX;

    #[tokio::test]
    async fn a_full_queue_gives_back_what_is_offered() {
        let queue = Queue::new(10);
        assert_eq!(queue.offer('a', 8), Ok(()));
        assert_eq!(queue.offer('b', 8), Ok(()));
        assert_eq!(queue.offer('c', 1), Err('c'));
        assert!(queue.ready().await);
        assert_eq!(queue.take_while(|item| *item == 'a'), ['a']);
        assert_eq!(queue.offer('d', 1), Ok(()));
        queue.close();
        assert_eq!(queue.offer('e', 1), Err('e'));
        assert_eq!(queue.take_while(|_| true), ['b', 'd']);
        assert!(!queue.ready().await);
    }

    #[test]
    fn what_waits_is_added_up() {
        let queue = Queue::new(10);
        queue.push_all(vec![('a', 1), ('b', 1)]);
        while queue.total_wait().is_zero() {}
        assert_eq!(queue.take_while(|_| true).len(), 2);
        let waited = queue.total_wait();
        assert_eq!(queue.total_wait(), waited, "nothing waits");
    }

    #[tokio::test]
    async fn who_reads_waits_until_the_lane_finds_nothing() {
        let queue = Arc::new(Queue::new(10));
        let reader = std::thread::spawn({
            let queue = queue.clone();
            move || {
                queue.wait_for_demand(FOR_EVER);
                queue.push_all(vec![('a', 1)]);
                queue.wait_for_demand(Duration::ZERO);
                queue.push_all(vec![('b', 1)]);
            }
        });
        assert!(queue.ready().await);
        assert!(reader.join().is_ok());
        assert_eq!(queue.take_while(|_| true), ['a', 'b']);
        assert!(tokio::time::timeout(Duration::ZERO, queue.ready()).await.is_err(), "empty: it asks");
        queue.wait_for_demand(FOR_EVER);
        queue.push_all(vec![('c', 1)]);
        queue.close();
        queue.wait_for_demand(FOR_EVER);
    }
}
