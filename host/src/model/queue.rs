//! The queue of a lane: first in, first out, bounded in bytes. One lane takes, many producers add.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

#[derive(Debug)]
struct QueueState<T> {
    /// Each item with its bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// The time that items have waited, added up until `counted_at`.
    total_wait: Duration,
    counted_at: Instant,
    closed: bool,
    /// The lane has found the queue empty since the last [`Queue::push_all`].
    demanded: bool,
}

/// The items that wait for the next units of a lane.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<QueueState<T>>,
    bytes_max: usize,
    arrived: Notify,
    room: Condvar,
    demand: Condvar,
}

impl<T> Queue<T> {
    /// A queue that refuses items once it holds `bytes_max`. The last item can exceed the limit, so that an
    /// item larger than the limit passes, too.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(QueueState {
                items: VecDeque::new(),
                bytes: 0,
                total_wait: Duration::ZERO,
                counted_at: Instant::now(),
                closed: false,
                demanded: false,
            }),
            bytes_max,
            arrived: Notify::new(),
            room: Condvar::new(),
            demand: Condvar::new(),
        }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// The queue is full or closed. Returns the item.
    pub fn offer(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.closed || state.bytes >= self.bytes_max {
            return Err(item);
        }
        state.count_wait();
        state.push(item, bytes);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Adds items, each with its bytes, even when the queue is full: they have been polled and must not be
    /// lost. A producer polls no more than [`Self::room`], so that only its last item can exceed the limit.
    pub fn push_all(&self, items: Vec<(T, usize)>) {
        let mut state = self.state.lock();
        state.count_wait();
        items.into_iter().for_each(|(item, bytes)| state.push(item, bytes));
        state.demanded = false;
        drop(state);
        self.arrived.notify_one();
    }

    /// Blocks the thread until the queue has room or is closed, or until `timeout`.
    pub fn wait_for_room(&self, timeout: Duration) {
        let mut state = self.state.lock();
        if state.bytes >= self.bytes_max && !state.closed {
            self.room.wait_for(&mut state, timeout);
        }
    }

    /// Blocks the thread until the lane has found the queue empty since the last [`Self::push_all`], or the
    /// queue is closed, or until `timeout`. A producer that waits for this adds once per unit, with all that
    /// has arrived meanwhile.
    pub fn wait_for_demand(&self, timeout: Duration) {
        let mut state = self.state.lock();
        if !state.demanded && !state.closed {
            self.demand.wait_for(&mut state, timeout);
        }
    }

    /// Whether [`Self::offer`] would return the item.
    pub fn is_full(&self) -> bool {
        self.state.lock().bytes >= self.bytes_max
    }

    /// How many bytes the queue still takes.
    pub fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.state.lock().bytes)
    }

    /// Bytes of all items.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The time that items have waited in this queue, added up.
    pub fn total_wait(&self) -> Duration {
        let mut state = self.state.lock();
        state.count_wait();
        state.total_wait
    }

    /// Refuses further items. Those in the queue can still be taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
        self.room.notify_all();
        self.demand.notify_all();
    }

    /// Takes items from the front while `wanted` returns true.
    pub fn take_while(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        state.count_wait();
        let mut taken = Vec::new();
        while let Some((item, _)) = state.items.front() {
            if !wanted(item) {
                break;
            }
            if let Some((item, bytes)) = state.items.pop_front() {
                state.bytes -= bytes;
                taken.push(item);
            }
        }
        drop(state);
        self.room.notify_all();
        taken
    }

    /// Waits until an item can be taken. Returns false when the queue is closed and empty. Safe to cancel.
    pub async fn ready(&self) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                if !state.items.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
                if !state.demanded {
                    state.demanded = true;
                    self.demand.notify_one();
                }
            }
            self.arrived.notified().await;
        }
    }
}

impl<T> QueueState<T> {
    /// Adds the time since the last count once for each item. Call it before an item is added or taken.
    fn count_wait(&mut self) {
        let now = Instant::now();
        self.total_wait += (now - self.counted_at) * u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        self.counted_at = now;
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
    async fn a_full_queue_returns_the_item() {
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
    fn waiting_time_is_added_up() {
        let queue = Queue::new(10);
        queue.push_all(vec![('a', 1), ('b', 1)]);
        while queue.total_wait().is_zero() {}
        assert_eq!(queue.take_while(|_| true).len(), 2);
        let waited = queue.total_wait();
        assert_eq!(queue.total_wait(), waited, "nothing waits");
    }

    #[tokio::test]
    async fn a_producer_waits_until_the_lane_finds_the_queue_empty() {
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
