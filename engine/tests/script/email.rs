//! `email::send` against a tiny SMTP server of the test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use stepwell::script::{MailServer, Protection};

use super::*;

/// What came in, a text for each session: the commands, and the mail.
type Sessions = Arc<Mutex<Vec<String>>>;

/// A server that takes mails, and answers the recipient of the n-th session with `answers[n]` (the last one for all others).
fn server(answers: &'static [&'static str]) -> (u16, Sessions) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sessions: Sessions = Arc::default();
    let seen = Arc::clone(&sessions);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
            say("220 test");
            let (mut session, mut in_mail) = (String::new(), false);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                session.push_str(&line);
                let command = line.trim_end().to_owned();
                line.clear();
                let goes_on = if in_mail {
                    in_mail = command != ".";
                    in_mail || say("250 taken")
                } else if command.starts_with("EHLO") {
                    say("250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN")
                } else if command.starts_with("RCPT") {
                    say(answers.get(number).or(answers.last()).unwrap())
                } else if command == "DATA" {
                    in_mail = true;
                    say("354 go on")
                } else if command == "QUIT" {
                    say("221 bye");
                    false
                } else if command.starts_with("AUTH") {
                    say("235 welcome")
                } else {
                    say("250 ok")
                };
                if !goes_on {
                    break;
                }
            }
            seen.lock().unwrap().push(session);
        }
    });
    (port, sessions)
}

fn bench(script: &str, port: u16) -> Bench {
    let mut bench = Bench::new(script).attempts(3);
    bench.surroundings.mail = Some(Arc::new(MailServer {
        host: "127.0.0.1".to_owned(),
        port,
        protection: Protection::Absent,
        login: Some(("app".to_owned(), "the password".to_owned())),
        from: Some("Shop <shop@example.com>".to_owned()),
    }));
    bench.outside = true;
    bench
}

const MAIL: &str = r#"step("mail", || email::send(#{
    to: ["Ada <ada@example.org>", "bob@example.org"], bcc: "eve@example.org", reply_to: "help@example.com",
    subject: "Grüße", text: "Hello\n.\nBye", html: "<b>Hello</b>",
    attachments: [#{ name: "a.csv", content: "x;y", type: "text/csv" }],
}))"#;

#[test]
fn a_mail_is_handed_over_with_all_its_parts() {
    let (port, sessions) = server(&["250 ok"]);
    let end = bench(MAIL, port).finish();
    let id = end.output().to_owned();
    // The mail is taken before QUIT; the session is noted after it.
    let session = loop {
        if let Some(session) = sessions.lock().unwrap().first().cloned() {
            break session;
        }
        std::thread::yield_now();
    };
    let parts = [
        "AUTH PLAIN",
        "MAIL FROM:<shop@example.com>",
        "RCPT TO:<ada@example.org>",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<eve@example.org>",
        "From: Shop <shop@example.com>",
        "To: Ada <ada@example.org>, bob@example.org",
        "Reply-To: help@example.com",
        "Subject: =?utf-8?b?R3LDvMOfZQ==?=",
        "multipart/mixed",
        "multipart/alternative",
        "<b>Hello</b>",
        "text/csv",
        "a.csv",
        "\r\n..\r\n",
    ];
    for part in parts {
        assert!(session.contains(part), "no {part} in:\n{session}");
    }
    assert!(!session.contains("Bcc") && !session.contains("To: eve"), "{session}");
    let id = id.trim_start_matches("{\"id\":\"").trim_end_matches("\"}");
    assert!(session.contains(&format!("Message-ID: {id}")) && id.ends_with("mail.1@example.com>"), "{id}\n{session}");
}

#[test]
fn what_the_server_says_for_now_is_tried_again_with_the_same_id_and_what_it_says_for_good_is_not() {
    let (port, _) = server(&["451 try later", "250 ok"]);
    let end = bench(MAIL, port).finish();
    assert_eq!(end.journal.attempts.len(), 1);
    assert!(end.journal.attempts[0].error.message.contains("try later"), "{:?}", end.journal.attempts[0].error);
    assert!(end.output().contains(".mail.1@example.com"), "{}", end.output());
    let (port, _) = server(&["550 nobody of that name"]);
    let end = bench(MAIL, port).finish();
    assert!(end.message().contains("nobody of that name") && end.code() == "E0431", "{}", end.message());
    assert_eq!(end.row.error.as_ref().unwrap().attempts, Some(1));
}

#[test]
fn a_mail_that_makes_no_sense_is_refused() {
    let cases = [
        (r#"#{ subject: "x", text: "y" }"#, "a mail goes to 1 to 100 people, not 0"),
        (r#"#{ to: "nobody", text: "y" }"#, "`nobody` is not an address"),
        (r#"#{ to: "a@b.example", text: "y", from: "a@b.example\r\nBcc: c@d.example" }"#, "is not an address"),
        (r#"#{ to: "a@b.example", text: "y", subject: "x\r\nBcc: c@d.example" }"#, "subject is one line"),
        (r#"#{ to: "a@b.example" }"#, "a `text` or an `html`"),
        (r#"{ let mail = #{ to: "a@b.example" }; mail.txt = "y"; mail }"#, "a mail has no `txt` | did you mean `text`?"),
        (r#"#{ to: "a@b.example", text: secret("KEY") }"#, "a secret does not belong into a mail's text"),
        (r#"#{ to: "a@b.example", text: "y", attachments: [#{ content: "x" }] }"#, "an attachment has a `name`"),
        (r#"#{ to: "a@b.example", text: "y", attachments: [#{ name: "x", content: "x", type: "csv" }] }"#, "is not a type of content"),
    ];
    for (mail, expected) in cases {
        let end = bench(&format!("step(\"mail\", || email::send({mail}))"), 1).secret("KEY", "a-secret-of-the-test").finish();
        let help = end.row.error.as_ref().unwrap().help.clone().unwrap_or_default();
        assert!(format!("{} | {help}", end.message()).contains(expected), "{mail}: {}", end.message());
        assert_eq!(end.row.error.as_ref().unwrap().attempts, Some(1), "{mail}");
    }
    let end = Bench::new(MAIL).attempts(1).finish();
    assert!(end.message().contains("names no mail server"), "{}", end.message());
}
