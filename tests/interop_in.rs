//! Rohrpost as the server of programs that others wrote: what they were given to send is, octet for
//! octet, what leaves the server on its other side.
//!
//! Each program sends the same texts. What it legitimately changes is written down beside it.
//! **Diagnostics**: the first mail that differs is shown with the place at which it does.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    peers::{House, LOGIN, Peer, Received, Text, UNDER_TEST, assert_same_octets, texts},
    support::{Authority, Random, Server, ServerBuilder, Tool},
};

/// How long all mails of one program may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(120);

/// Mails of random octets beside those of each kind.
const RANDOM_MAILS: usize = 5;

/// Texts as files, each with its recipients in NUMBER.to: in NUMBER.crlf the octets, in NUMBER.lf with the
/// line ends of this system, in NUMBER.cut without the last one.
struct Outbox {
    folder: PathBuf,
    texts: Vec<Text>,
}

impl Outbox {
    /// Those of `texts` that `suits` the program.
    fn new(folder: &Path, name: &str, suits: impl Fn(&Text) -> bool) -> Outbox {
        let folder = folder.join("outbox");
        std::fs::create_dir(&folder).expect("a new directory can be written");
        let mut random = Random::from_environment(name);
        let mut texts = texts(&mut random, RANDOM_MAILS);
        texts.retain(|text| text.ends_in_line_end() && suits(text));
        let outbox = Outbox { folder, texts };
        for (number, text) in outbox.texts.iter().enumerate() {
            let to: Vec<String> = outbox.recipients(number);
            std::fs::write(outbox.path(number, "crlf"), &text.octets).expect("room on the disk");
            let lf = text.with_line_feeds();
            std::fs::write(outbox.path(number, "lf"), &lf).expect("room on the disk");
            let cut = lf.strip_suffix(b"\n").unwrap_or(&lf);
            std::fs::write(outbox.path(number, "cut"), cut).expect("room on the disk");
            std::fs::write(outbox.path(number, "to"), to.join("\n") + "\n")
                .expect("room on the disk");
        }
        outbox
    }

    fn path(&self, number: usize, kind: &str) -> PathBuf {
        self.folder.join(format!("{number:03}.{kind}"))
    }

    /// The first mail goes to two, the others to one each.
    fn recipients(&self, number: usize) -> Vec<String> {
        let second = (number == 0).then(|| "second@example.net".to_owned());
        [format!("m{number}@example.net")].into_iter().chain(second).collect()
    }
}

/// How a program comes to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As a client in smtp-relay-range, in clear.
    Clear,
    /// By STARTTLS, looking at our certificate, and with a login; in no other way would it be served.
    Login,
    /// By STARTTLS, looking at our certificate, as a client in smtp-relay-range.
    Secure,
    /// With a login in clear, for a program without TLS.
    ClearLogin,
}

impl Manner {
    /// What our Received field says of it: RFC 3848, and RFC 6531 4.3 where Postfix finds a reason.
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Manner::Clear => &["SMTP", "ESMTP", "UTF8SMTP"],
            Manner::Login => &["ESMTPSA", "UTF8SMTPSA"],
            Manner::Secure => &["ESMTPS", "UTF8SMTPS"],
            Manner::ClearLogin => &["ESMTPA", "UTF8SMTPA"],
        }
    }

    fn assert_told_by(self, kept: &Received) {
        let trace = String::from_utf8_lossy(&kept.trace);
        let told = |protocol: &&str| trace.contains(&format!(" with {protocol} id "));
        assert!(self.protocols().iter().any(told), "{self:?}: {trace}");
    }
}

/// A server, and behind it one that keeps what it passes on.
struct Way {
    server: Server,
    behind: Peer,
    manner: Manner,
    authority: Authority,
}

impl Way {
    fn open(manner: Manner) -> Way {
        let behind = Peer::receiver(House::Aiosmtpd);
        let plan = Server::builder().setting("smtp-hostname", UNDER_TEST);
        let authority = Authority::new();
        let made = authority.certify(plan.directory(), &["localhost", "127.0.0.1"]);
        let secured = |plan: ServerBuilder| {
            let plan = plan.setting("smtp-certificate", made.chain.display());
            plan.setting("smtp-key", made.key.display()).setting("smtp-tls-required", "yes")
        };
        let users = format!("hardcoded://{}:{}", LOGIN.0, LOGIN.1);
        let plan = match manner {
            Manner::Clear => plan,
            Manner::Login => secured(plan).setting("smtp-auth", users),
            Manner::Secure => secured(plan),
            Manner::ClearLogin => {
                plan.setting("smtp-auth", users).setting("smtp-auth-plaintext", "127.0.0.0/8")
            }
        };
        let server = plan.smarthost(behind.address()).start();
        Way { server, behind, manner, authority }
    }

    /// Arguments of a script that comes by login or not.
    fn login(&self) -> &'static [&'static str] {
        match self.manner {
            Manner::Clear | Manner::Secure => &[],
            Manner::Login | Manner::ClearLogin => &[LOGIN.0, LOGIN.1],
        }
    }

    fn smtp(&self) -> SocketAddr {
        self.server.smtp()
    }

    fn outbox(&self, name: &str, suits: impl Fn(&Text) -> bool) -> Outbox {
        let outbox = Outbox::new(self.server.plan().directory(), name, suits);
        self.authority.write(&outbox.folder.join("ca.pem"));
        outbox
    }

    /// A server that sends what it is given to ours.
    fn sender(&self, house: House) -> Peer {
        match self.manner {
            Manner::Clear => Peer::sender(house, self.smtp()),
            Manner::Login | Manner::Secure | Manner::ClearLogin => {
                Peer::secure_sender(house, self.smtp(), &self.authority)
            }
        }
    }

    /// Waits until each mail has arrived, if it comes by a sender that queues it.
    fn await_all(&self, outbox: &Outbox) {
        for number in 0..outbox.texts.len() {
            self.behind.await_kept(&format!("m{number}"), BATCH);
        }
    }

    /// Each mail has arrived once for each recipient, below `added` fields of the sender.
    fn assert_arrived(&self, outbox: &Outbox, added: usize) {
        self.server.await_empty_queue(BATCH);
        let mut mails = 0;
        for (number, text) in outbox.texts.iter().enumerate() {
            for recipient in outbox.recipients(number) {
                let (local_part, _) = recipient.split_once('@').expect("it is an address");
                let kept = self.behind.await_kept(local_part, BATCH);
                let own = kept.below(added);
                self.manner.assert_told_by(&kept);
                assert_same_octets(text.name, &text.octets, own);
                mails += 1;
            }
        }
        assert_eq!(self.behind.count(), mails);
    }
}

/// Sends each mail of `outbox` by a run of its own, with a file in `kind`.
fn one_by_one(outbox: &Outbox, kind: &str, tool: impl Fn(&[String]) -> Tool) {
    for number in 0..outbox.texts.len() {
        let tool = tool(&outbox.recipients(number));
        tool.input(&outbox.path(number, kind)).run(BATCH);
    }
}

fn smtplib(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("smtplib", |_| true);
    let script = Tool::python("send_files.py").arg("smtplib").arg(way.smtp().to_string());
    script.arg(&outbox.folder).words(&way.login().join(" ")).run(BATCH);
    way.assert_arrived(&outbox, 0);
}

fn aiosmtplib(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("aiosmtplib", |_| true);
    let script = Tool::python("send_files.py").arg("aiosmtplib").arg(way.smtp().to_string());
    script.arg(&outbox.folder).words(&way.login().join(" ")).run(BATCH);
    way.assert_arrived(&outbox, 0);
}

fn nodemailer(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("nodemailer", |_| true);
    let script = Tool::node("send_files.js").arg(way.smtp().to_string());
    script.arg(&outbox.folder).words(&way.login().join(" ")).run(BATCH);
    way.assert_arrived(&outbox, 0);
}

fn msmtp(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("msmtp", |_| true);
    one_by_one(&outbox, "lf", |recipients| {
        let tool = Tool::new("msmtp").words("--host=127.0.0.1 --domain=client.example");
        let tool = tool.arg(format!("--port={}", way.smtp().port()));
        let tool = tool.words("--timeout=60 --from=a@example.org");
        let tool = if manner == Manner::Clear {
            tool.words("--tls=off --auth=off")
        } else {
            let ca = outbox.folder.join("ca.pem");
            let tool = tool.words("--tls=on --tls-starttls=on --auth=plain");
            let tool = tool.arg(format!("--tls-trust-file={}", ca.display()));
            tool.arg(format!("--user={}", LOGIN.0)).arg(format!("--passwordeval=echo {}", LOGIN.1))
        };
        recipients.iter().fold(tool.arg("--"), |tool, recipient| tool.arg(recipient))
    });
    way.assert_arrived(&outbox, 0);
}

fn curl(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("curl", |_| true);
    one_by_one(&outbox, "crlf", |recipients| {
        let tool = Tool::new("curl").words("--silent --show-error --max-time 60 -T -");
        let tool = if manner == Manner::Clear {
            tool
        } else {
            let tool = tool.words("--ssl-reqd --cacert").arg(outbox.folder.join("ca.pem"));
            tool.arg("--user").arg(format!("{}:{}", LOGIN.0, LOGIN.1))
        };
        let tool = tool.words("--mail-from a@example.org --url");
        let tool = tool.arg(format!("smtp://{}/client.example", way.smtp()));
        let to = |tool: Tool, recipient: &String| tool.arg("--mail-rcpt").arg(recipient);
        recipients.iter().fold(tool, to)
    });
    way.assert_arrived(&outbox, 0);
}

fn swaks(manner: Manner) {
    let way = Way::open(manner);
    // It ends the last line itself, knows better how a mail ends that has a dot or nothing there, and
    // puts something else in the place of backslashes and percent signs.
    let outbox = way.outbox("swaks", |text| {
        let ends = [&b"\r\n.\r\n"[..], b"\r\n\r\n"].iter().any(|end| text.octets.ends_with(end));
        let marked = text.octets.iter().any(|octet| b"\\%".contains(octet));
        text.name != "a header alone" && !ends && !marked
    });
    one_by_one(&outbox, "cut", |recipients| {
        let tool = Tool::new("swaks").words("--silent 2 --timeout 60 --helo client.example");
        let tool = if manner == Manner::Clear {
            tool
        } else {
            let tool = tool.words("--auth LOGIN --auth-user").arg(LOGIN.0);
            tool.arg("--auth-password").arg(LOGIN.1)
        };
        let tool = tool.words("--from a@example.org --data - --server");
        tool.arg(way.smtp().to_string()).arg("--to").arg(recipients.join(","))
    });
    way.assert_arrived(&outbox, 0);
}

/// s-nail writes the header itself, and is told to leave the text as it is.
fn s_nail(manner: Manner) {
    let way = Way::open(manner);
    let outbox = way.outbox("s-nail", |text| {
        let lines = text.octets.split(|&octet| octet == b'\n');
        // Beyond that it makes quoted-printable of the text, and of control characters base64.
        let short = lines.map(<[u8]>::len).max().unwrap_or_default() <= 900;
        let plain = |octet: &u8| octet.is_ascii_graphic() || b" \r\n".contains(octet);
        short && text.octets.iter().all(plain) && text.name != "a header alone"
    });
    for number in 0..outbox.texts.len() {
        let (_, body) = outbox.texts[number].parts();
        let body = Text { name: "", octets: body.to_vec() };
        let path = outbox.path(number, "body");
        std::fs::write(&path, body.with_line_feeds()).expect("room on the disk");
        let tool = Tool::new("s-nail").words("-:/ -S v15-compat -S mime-encoding=8b -S nosave");
        let tool = tool.words("-S hostname=client.example -S from=a@example.org -r a@example.org");
        let tool = if manner == Manner::Clear {
            tool.words("-S smtp-auth=none -S").arg(format!("mta=smtp://{}", way.smtp()))
        } else {
            let ca = outbox.folder.join("ca.pem");
            let tool = tool.words("-S smtp-auth=plain -S smtp-use-starttls -S tls-verify=strict");
            let tool = tool.arg("-S").arg(format!("tls-ca-file={}", ca.display()));
            let (user, password) = LOGIN;
            tool.arg("-S")
                .arg(format!("mta=smtp://{user}:{password}@localhost:{}", way.smtp().port()))
        };
        let tool = tool.arg("-s").arg(outbox.texts[number].name);
        let recipients = outbox.recipients(number);
        let tool = recipients.iter().fold(tool, |tool, recipient| tool.arg(recipient));
        tool.input(&path).run(BATCH);
    }
    way.server.await_empty_queue(BATCH);
    for (number, text) in outbox.texts.iter().enumerate() {
        for recipient in outbox.recipients(number) {
            let (local_part, _) = recipient.split_once('@').expect("it is an address");
            let kept = way.behind.await_kept(local_part, BATCH);
            manner.assert_told_by(&kept);
            let kept = Text { name: text.name, octets: kept.rest };
            assert_same_octets(text.name, text.parts().1, kept.parts().1);
        }
    }
}

/// Queued by Postfix' own sendmail, delivered by its own client.
fn postfix(manner: Manner) {
    let way = Way::open(manner);
    let sender = way.sender(House::Postfix);
    let outbox = way.outbox("postfix", |_| true);
    for number in 0..outbox.texts.len() {
        let recipients = outbox.recipients(number);
        let command =
            ["/mnt/usr/sbin/sendmail", "-C", "/etc/postfix", "-oi", "-f", "a@example.org"];
        let recipients = recipients.iter().map(String::as_str);
        let command: Vec<&str> = command.into_iter().chain(recipients).collect();
        sender.run_inside(&command, &outbox.path(number, "lf"));
    }
    way.await_all(&outbox);
    // Its Received field.
    way.assert_arrived(&outbox, 1);
}

/// Delivered by Exim from the process that took it, by BDAT as we offer it. It ends every header.
fn exim(manner: Manner) {
    let way = Way::open(manner);
    let sender = way.sender(House::Exim);
    let outbox = way.outbox("exim", |text| text.name != "a header alone");
    for number in 0..outbox.texts.len() {
        let recipients = outbox.recipients(number);
        let command = ["/mnt/usr/sbin/exim4", "-odf", "-oi", "-f", "a@example.org"];
        let recipients = recipients.iter().map(String::as_str);
        let command: Vec<&str> = command.into_iter().chain(recipients).collect();
        sender.run_inside(&command, &outbox.path(number, "lf"));
    }
    way.await_all(&outbox);
    assert!(sender.logged(" K "), "{sender}");
    way.assert_arrived(&outbox, 1);
}

macro_rules! programs {
    ($($name:ident: $program:ident($manner:ident);)*) => {
        $(#[test] fn $name() { $program(Manner::$manner); })*
    };
}

programs! {
    smtplib_is_served: smtplib(Clear);
    smtplib_is_served_over_tls_and_a_login: smtplib(Login);
    aiosmtplib_is_served: aiosmtplib(Clear);
    aiosmtplib_is_served_over_tls_and_a_login: aiosmtplib(Login);
    nodemailer_is_served: nodemailer(Clear);
    nodemailer_is_served_over_tls_and_a_login: nodemailer(Login);
    msmtp_is_served: msmtp(Clear);
    msmtp_is_served_over_tls_and_a_login: msmtp(Login);
    s_nail_is_served: s_nail(Clear);
    s_nail_is_served_over_tls_and_a_login: s_nail(Login);
    curl_is_served: curl(Clear);
    curl_is_served_over_tls_and_a_login: curl(Login);
    swaks_is_served: swaks(Clear);
    swaks_is_served_with_a_login: swaks(ClearLogin);
    postfix_is_served: postfix(Clear);
    postfix_is_served_over_tls: postfix(Secure);
    exim_is_served: exim(Clear);
    exim_is_served_over_tls_and_a_login: exim(Login);
}
