//! Channels: what steps publish, for whoever listens at that moment. Nothing of it is kept, and nobody waits for a listener: one that
//! reads too slowly misses the oldest of what waits for it, and is told how much.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::limits::CHANNEL_WAITING_BYTES;
use crate::script::Published;

use super::Engine;

/// What a message counts for besides its texts, in bytes.
const MESSAGE_LEAST_BYTES: usize = 128;

/// Who listens to which channel.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<HashMap<Arc<str>, Vec<Arc<Ear>>>>);

/// What a listener wants to hear, and what it has not heard yet.
#[derive(Debug)]
struct Ear {
    /// Messages with one of these topics alone; all of them where it is empty.
    topics: Vec<String>,
    waiting: Mutex<Waiting>,
    come: Notify,
}

/// The messages that wait for a listener.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Arc<Published>>,
    bytes: usize,
    missed: u64,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The next message.
    Message(Arc<Published>),
    /// So many messages that it would have heard here are gone, since it read too slowly.
    Missed(u64),
}

/// Somebody who listens to a channel, until this is dropped.
#[derive(Debug)]
pub struct Listener {
    channels: Arc<Channels>,
    channel: Arc<str>,
    ear: Arc<Ear>,
}

impl Channels {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Arc<Ear>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Channels>, channel: &str, topics: Vec<String>) -> Listener {
        let channel: Arc<str> = Arc::from(channel);
        let ear = Arc::new(Ear { topics, waiting: Mutex::default(), come: Notify::new() });
        self.all().entry(Arc::clone(&channel)).or_default().push(Arc::clone(&ear));
        Listener { channels: Arc::clone(self), channel, ear }
    }

    /// Tells a message to those who listen now.
    pub(super) fn tell(&self, message: &Arc<Published>) {
        let all = self.all();
        for ear in all.get(&message.channel).into_iter().flatten().filter(|ear| ear.wants(message)) {
            ear.waiting().put(message);
            ear.come.notify_one();
        }
    }
}

impl Ear {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, message: &Published) -> bool {
        self.topics.is_empty() || message.topic.as_deref().is_some_and(|topic| self.topics.iter().any(|wanted| wanted == topic))
    }
}

impl Waiting {
    fn put(&mut self, message: &Arc<Published>) {
        self.bytes += weight(message);
        self.messages.push_back(Arc::clone(message));
        // The last one always has room, so that a listener hears something, however large that is.
        while self.bytes > CHANNEL_WAITING_BYTES && self.messages.len() > 1 {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.missed += 1;
        }
    }

    fn take(&mut self) -> Option<Heard> {
        if self.missed > 0 {
            return Some(Heard::Missed(std::mem::take(&mut self.missed)));
        }
        let message = self.messages.pop_front()?;
        self.bytes -= weight(&message);
        Some(Heard::Message(message))
    }
}

fn weight(message: &Published) -> usize {
    MESSAGE_LEAST_BYTES + message.data.len() + message.topic.as_ref().map_or(0, |topic| topic.len())
}

impl Listener {
    /// Waits for what comes next. A call that is given up loses nothing.
    pub async fn next(&mut self) -> Heard {
        loop {
            // What was put there before this look is seen by it, and what comes after it leaves its word behind.
            let heard = self.ear.waiting().take();
            match heard {
                Some(heard) => return heard,
                None => self.ear.come.notified().await,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = self.channels.all();
        if let Some(ears) = all.get_mut(&self.channel) {
            ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
            if ears.is_empty() {
                all.remove(&self.channel);
            }
        }
    }
}

impl Engine {
    /// Listens to a channel from now on: to messages with one of the topics, or to all where there are none.
    pub fn listen(&self, channel: &str, topics: Vec<String>) -> Listener {
        self.inner.watch.channels().listen(channel, topics)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::base::limits::CHANNEL_MESSAGE_BYTES;
    use crate::base::{Id, Json, Millis};

    fn message(channel: &str, topic: Option<&str>, data: &str) -> Arc<Published> {
        let topic = topic.map(Arc::from);
        Arc::new(Published { channel: Arc::from(channel), topic, data: Json::from(data), run: Id(1), at: Millis(1) })
    }

    /// What a listener hears without waiting.
    fn heard(listener: &mut Listener) -> Vec<Heard> {
        std::iter::from_fn(|| listener.next().now_or_never()).collect()
    }

    #[test]
    fn a_listener_hears_its_channel_and_its_topics_in_order_from_when_it_came() {
        let channels = Arc::new(Channels::default());
        channels.tell(&message("a", None, "0"));
        let (mut all, mut some) = (channels.listen("a", Vec::new()), channels.listen("a", vec!["x".to_owned(), "y".to_owned()]));
        let messages = [Some("x"), None, Some("z"), Some("y"), Some("x")].map(|topic| message("a", topic, "1"));
        messages.iter().for_each(|message| channels.tell(message));
        channels.tell(&message("b", Some("x"), "2"));
        let chosen = |at: &[usize]| at.iter().map(|at| Heard::Message(Arc::clone(&messages[*at]))).collect::<Vec<_>>();
        assert_eq!(heard(&mut all), chosen(&[0, 1, 2, 3, 4]));
        assert_eq!(heard(&mut some), chosen(&[0, 3, 4]));
        drop((all, some));
        assert!(channels.all().is_empty(), "nothing is left of a channel that nobody listens to");
    }

    #[test]
    fn what_waits_for_a_listener_is_bounded_and_what_it_misses_is_counted() {
        let channels = Arc::new(Channels::default());
        let (mut slow, mut quick) = (channels.listen("a", Vec::new()), channels.listen("a", Vec::new()));
        let large = "1".repeat(CHANNEL_MESSAGE_BYTES);
        for at in 0..20 {
            channels.tell(&message("a", None, &large[at..]));
            assert_eq!(heard(&mut quick).len(), 1, "another one's slowness is nothing to it");
        }
        assert!(slow.ear.waiting().bytes <= CHANNEL_WAITING_BYTES);
        let heard = heard(&mut slow);
        let Some((Heard::Missed(missed), rest)) = heard.split_first() else { panic!("{} are heard", heard.len()) };
        assert_eq!(*missed + rest.len() as u64, 20);
        assert!(matches!(rest.last(), Some(Heard::Message(last)) if last.data.len() == large.len() - 19));
        assert_eq!(slow.ear.waiting().bytes, 0);
    }

    #[test]
    fn one_that_is_larger_than_all_that_may_wait_is_heard_alone() {
        let channels = Arc::new(Channels::default());
        let mut listener = channels.listen("a", Vec::new());
        let huge = message("a", None, &"1".repeat(CHANNEL_WAITING_BYTES));
        channels.tell(&message("a", None, "0"));
        channels.tell(&huge);
        assert_eq!(heard(&mut listener), [Heard::Missed(1), Heard::Message(huge)]);
    }
}
