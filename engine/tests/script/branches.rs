//! Branches that wait while others are at work, with an engine around them that the test plays.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use stepwell::rules::{Failure, Resolution, WaitKey, WaitState, waits};
use stepwell::script::{Checked, Outgoing, OwnWrites, Parcel, Post, Reply};

use super::http::{Server, ok};
use super::*;

/// An engine in which a signal comes as soon as the wait for it is stored: the first one before whoever opened that wait
/// has heard that it is open.
struct Early {
    store: Arc<dyn Store>,
    stop: Arc<Stop>,
    second: Mutex<Sender<()>>,
}

impl Post for Early {
    fn send(&self, _: Vec<Outgoing>) -> Checked<Vec<EventId>> {
        Err(Box::default())
    }
    fn signal(&self, _: Arc<str>, _: Json) -> Box<dyn Parcel> {
        Box::new(Alone)
    }
    fn invoke(&self, _: &RunRow, _: &str, _: Json, _: Option<Json>) -> Result<(RunId, Box<dyn Parcel>), Box<Failure>> {
        Err(Box::default())
    }
    fn open(&self, _: &RunRow, wait: WaitRow, with: Option<OwnWrites>) -> Reply<WaitRow> {
        let (store, stop) = (Arc::clone(&self.store), Arc::clone(&self.stop));
        let second = wait.wait.key.ends_with("second").then(|| self.second.lock().unwrap().clone());
        Box::pin(async move {
            if let Some(with) = with {
                let resolve = waits::resolve(&wait.wait, Resolution::Value(Json::from("5")));
                let verdicts = store.commit(Lane::Steps, vec![with.list, resolve]).await.unwrap();
                assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
                stop.poke();
                second.iter().for_each(|second| second.send(()).unwrap());
                // What the script was told of, it looks at before it hears that the wait is open.
                tokio::task::yield_now().await;
            }
            Ok(wait)
        })
    }
    fn waits(&self, run: RunId) -> Result<Vec<WaitRow>, StoreError> {
        self.store.waits(run)
    }
    fn event(&self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.store.event(id)
    }
    fn value(&self, key: &str) -> Result<Option<KvRow>, StoreError> {
        self.store.value(key)
    }
    fn keys(&self) -> Arc<Keys> {
        Arc::default()
    }
    fn time_out(&self, wait: &WaitKey) -> Reply<WaitRow> {
        panic!("nothing times out here: {wait:?}")
    }
    fn leave(&self, race: Arc<str>, waits: Vec<WaitRow>, _: OwnWrites) -> Reply<()> {
        panic!("nothing races here: {race} {waits:?}")
    }
}

/// Runs a script in which a branch waits for `first` and `second`, while another one is at a call that is answered only
/// when the second wait has been opened.
fn runs(script: &str) {
    let (second, opened) = channel();
    let opened = Mutex::new(opened);
    let server = Server::new(move |number, _| {
        // Only a failure takes this long: then the call lets go, and says so.
        if number == 1 && opened.lock().unwrap().recv_timeout(Duration::from_secs(20)).is_err() {
            return ok("too early");
        }
        ok("late")
    });
    let mut bench = server.bench(script);
    bench.timeouts.step = Span::seconds(5);
    bench.retry.attempts = 1;
    bench.post = Arc::new(Early { store: Arc::clone(&bench.store), stop: Arc::clone(&bench.stop), second: Mutex::new(second) });
    let end = bench.finish();
    assert_eq!(end.output(), "\"late 10\"");
    assert!(bench.store.waits(bench.run).unwrap().iter().all(|row| row.state != WaitState::Open));
}

#[test]
fn what_comes_before_a_branch_has_heard_that_its_wait_is_open_is_not_missed() {
    runs(
        r#"
        let all = parallel(#{
            slow: || step("call", || http::get("URL/").text),
            waits: || { let first = wait_for_signal("first"); first + wait_for_signal("second") },
        });
        `${all.slow} ${all.waits}`
    "#,
    );
}

#[test]
fn branches_of_branches_are_told_too() {
    runs(
        r#"
        let all = parallel(#{
            calls: || step("call", || http::get("URL/").text),
            inner: || parallel(#{
                calls: || step("call", || http::get("URL/").text),
                waits: || { let first = wait_for_signal("first"); first + wait_for_signal("second") },
            }),
        });
        `${all.calls} ${all.inner.waits}`
    "#,
    );
}
