//! Servers that refuse, close, or say nothing: each message has one fate, and each run an end.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::sink;
use crate::support::{Load, fresh_port};

#[test]
fn refusals_are_counted_by_the_code_that_decided() {
    for flight in ["lockstep", "pipelined", "bdat"] {
        for (refusal, code) in [("dot=451@30%", 451), ("rcpt=550@30%", 550), ("mail=452@30%", 452)]
        {
            let (_folder, sink) = sink(&["--refuse", refusal]);
            let measured =
                Load::on(sink.address(), &format!("--messages 300 --flight {flight}")).run();
            let (good, refused) = (measured.replies(250), measured.replies(code));
            assert_eq!(good + refused, 300, "{flight} {refusal}: {measured:?}");
            assert!(good > 0 && refused > 0, "{flight} {refusal}: {measured:?}");
            assert_eq!(measured.count("accepted"), good);
            assert_eq!(sink.count() as u64, good, "{flight} {refusal}");
            assert_eq!((measured.code, measured.count("failed_connections")), (Some(1), 0));
        }
    }
}

#[test]
fn recipients_that_accepted_messages_lost_are_counted() {
    let (_folder, sink) = sink(&["--refuse", "rcpt=550@50%"]);
    let line = "--messages 100 --recipients 4 --flight pipelined";
    let measured = Load::on(sink.address(), line).run();
    let arrived: usize =
        super::mails(&sink).iter().map(|mail| mail["recipients"].as_array().unwrap().len()).sum();
    let accepted = measured.count("accepted");
    assert_eq!(measured.count("refused_recipients"), 4 * accepted - arrived as u64);
    assert!(measured.count("refused_recipients") > 0 && measured.code == Some(1), "{measured:?}");
}

#[test]
fn a_server_that_closes_loses_messages_and_gets_new_connections() {
    let (_folder, sink) = sink(&["--close-after", "3"]);
    let measured = Load::on(sink.address(), "--messages 99 --connections 4").run();
    let (messages, accepted) = (measured.count("messages"), measured.count("accepted"));
    assert_eq!((messages, measured.code), (99, Some(1)), "{measured:?}");
    // Each third was taken and never answered.
    assert_eq!(measured.count("lost"), messages - accepted);
    assert!(accepted >= 60 && measured.count("failed_connections") >= 30, "{measured:?}");
    assert!(measured.stderr.contains("the server closed the connection"), "{measured:?}");
}

#[test]
fn a_place_where_nothing_ever_comes_of_it_is_given_up() {
    let (_folder, sink) = sink(&["--close-after", "1"]);
    let measured = Load::on(sink.address(), "--seconds 600 --connections 2").run();
    assert_eq!((measured.count("messages"), measured.count("lost")), (6, 6), "{measured:?}");
    let measured = Load::on(fresh_port(), "--messages 10 --connections 2").run();
    assert_eq!((measured.count("messages"), measured.code), (0, Some(1)), "{measured:?}");
    assert!(measured.stderr.contains("cannot connect: Connection refused"), "{measured:?}");
}

/// A server that greets and answers so many lines with 250, and from then on says nothing; 0 is not even
/// a greeting.
fn silent_after(lines: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut input = BufReader::new(stream.try_clone().unwrap());
            if lines > 0 {
                let _ = stream.write_all(b"220 here\r\n");
            }
            for _ in 0..lines {
                let mut line = String::new();
                let _ = input.read_line(&mut line);
                let _ = stream.write_all(b"250 yes\r\n");
            }
            kept.push((stream, input));
        }
    });
    address
}

#[test]
fn a_server_that_never_answers_ends_the_load_within_its_timeout() {
    for lines in [0, 1, 2] {
        let line = "--messages 5 --connections 1 --timeout 1";
        let measured = Load::on(silent_after(lines), line).run();
        assert_eq!((measured.code, measured.count("accepted")), (Some(1), 0), "{measured:?}");
        assert_eq!(measured.count("failed_connections"), 3, "{lines}: {measured:?}");
        assert!(measured.stderr.contains("no answer within 1 s"), "{measured:?}");
        assert_eq!(measured.count("lost"), if lines == 0 { 0 } else { 3 }, "{measured:?}");
    }
}

/// A server that says this, lets the client answer, and closes.
fn saying(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(text.as_bytes());
            if !text.is_empty() {
                let _ = BufReader::new(stream).read_line(&mut String::new());
            }
        }
    });
    address
}

#[test]
fn a_server_that_wants_no_mail_is_quoted() {
    for (text, part) in [
        ("554 go away\r\n", "554 go away"),
        ("421 too busy\r\n", "421 too busy"),
        ("HTTP/1.1 400\r\n", "cannot be read"),
        ("", "closed the connection before it was ready for mail"),
    ] {
        let measured = Load::on(saying(text), "--messages 5 --connections 1").run();
        assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
        assert!(measured.stderr.contains(part), "{text}: {measured:?}");
    }
}

#[test]
fn what_cannot_begin_says_why() {
    let nobody = fresh_port();
    let measured = Load::on(nobody, "--idle --connections 2").run();
    assert_eq!(measured.code, Some(1));
    assert!(measured.stderr.contains("cannot connect"), "{measured:?}");
    let mut load =
        Load::on(nobody, "--login u --password-file /nowhere/password --tls starttls").spawn();
    assert_eq!(load.wait(crate::support::PATIENCE).code(), Some(78));
    assert!(load.stderr.complete().contains("cannot read the password from /nowhere/password"));
}

/// What a scripted server does with a message.
#[derive(Clone, Copy)]
enum Conduct {
    /// Takes the first of each connection, and says goodbye to the second.
    OneEach,
    /// Refuses each when it has seen the beginning of its text, and reads no more.
    Impatient,
}

fn conducted(conduct: Conduct) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || serve(stream, conduct));
        }
    });
    address
}

/// Until the client goes, or is told to go.
fn serve(mut stream: TcpStream, conduct: Conduct) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    stream.write_all(b"220 here\r\n")?;
    let mut messages = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match (line.get(..4).unwrap_or_default(), conduct) {
            ("MAIL", Conduct::OneEach) if messages == 1 => {
                return stream.write_all(b"421 enough\r\n");
            }
            ("DATA", Conduct::OneEach) => {
                stream.write_all(b"354 go on\r\n")?;
                while line != ".\r\n" {
                    line.clear();
                    input.read_line(&mut line)?;
                }
                messages += 1;
                "250 taken\r\n"
            }
            ("DATA", Conduct::Impatient) => {
                stream.write_all(b"354 go on\r\n")?;
                input.read_line(&mut line)?;
                stream.write_all(b"552 too much\r\n")?;
                // Never is there room for the rest of the text.
                loop {
                    std::thread::park();
                }
            }
            _ => "250 yes\r\n",
        };
        stream.write_all(reply.as_bytes())?;
    }
}

#[test]
fn a_goodbye_in_the_midst_is_a_reply_and_the_end_of_a_connection() {
    let line = "--messages 10 --connections 2";
    let measured = Load::on(conducted(Conduct::OneEach), line).run();
    let (taken, goodbyes) = (measured.replies(250), measured.replies(421));
    assert_eq!((taken + goodbyes, measured.count("lost")), (10, 0), "{measured:?}");
    assert!(goodbyes >= 4 && taken >= 5, "{measured:?}");
    assert_eq!(measured.count("failed_connections"), goodbyes);
    assert!(measured.stderr.contains("the server closed the connection (421)"), "{measured:?}");
}

#[test]
fn a_reply_before_the_end_of_a_text_ends_the_connection() {
    // More than the system holds between the two.
    let line = "--messages 2 --connections 1 --octets 64M";
    let measured = Load::on(conducted(Conduct::Impatient), line).run();
    assert_eq!((measured.replies(552), measured.code), (2, Some(1)), "{measured:?}");
    assert_eq!(measured.count("failed_connections"), 2, "{measured:?}");
    assert!(measured.stderr.contains("said 552 before the text had ended"), "{measured:?}");
}
