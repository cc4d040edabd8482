//! Calls that many runs make at once.

use std::net::TcpListener;

use stepwell::rules::RunState;

use super::World;
use super::parallel::{accepted, answer};

/// More than may be about to begin at once on two threads.
const HANGING: usize = 300;

#[test]
fn calls_that_nobody_answers_keep_no_other_from_beginning() {
    let (hangs, answers) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", r#"step("call", || http::get(event.data.url).text)"#)]);
    world.block_on(async {
        let url = |listener: &TcpListener| format!(r#"{{"url":"http://{}/"}}"#, listener.local_addr().unwrap());
        for _ in 0..HANGING {
            world.send("a/b", &url(&hangs)).await.unwrap();
        }
        let accept = move || (0..HANGING).map(|_| hangs.accept().unwrap().0).collect::<Vec<_>>();
        let held = tokio::task::spawn_blocking(accept).await.unwrap();
        let event = world.send("a/b", &url(&answers)).await.unwrap();
        let mut stream = accepted(answers).await;
        answer(&mut stream, "here");
        let run = world.ended(event).await;
        assert_eq!((run.state, run.output.as_deref()), (RunState::Completed, Some("\"here\"")), "{run:?}");
        assert_eq!(held.len(), HANGING, "they hang still");
    });
}
