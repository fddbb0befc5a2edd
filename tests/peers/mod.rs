//! Mail servers of other houses, as receivers that keep every octet or as senders: Postfix, Exim,
//! OpenSMTPD, Haraka, aiosmtpd. Their settings are the files in the folders beside this one.
//!
//! Each runs on a loopback address of its own, so that no port is ever taken twice. Those that want to
//! be installed, with users and folders in `/var`, run in a room (`room.sh`): namespaces in which that
//! is so. **Diagnostics**: one that does not come up panics with what it wrote and what it needs; one
//! that is alive while its test fails shows its logs.

mod received;
mod text;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tempfile::TempDir;

pub(crate) use self::{
    received::{Received, UNDER_TEST, assert_same_octets, find},
    text::{Text, texts},
};
use crate::support::{Authority, PATIENCE, Process, SmtpClient, Tool, eventually, within};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum House {
    Postfix,
    Exim,
    OpenSmtpd,
    Haraka,
    Aiosmtpd,
}

impl House {
    pub(crate) const ALL: [House; 5] =
        [House::Postfix, House::Exim, House::OpenSmtpd, House::Haraka, House::Aiosmtpd];

    /// As its folder beside this file and its stamp below `target/tools` are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            House::Postfix => "postfix",
            House::Exim => "exim",
            House::OpenSmtpd => "opensmtpd",
            House::Haraka => "haraka",
            House::Aiosmtpd => "aiosmtpd",
        }
    }

    /// Whether what it keeps has lines that end in LF alone, as files of this system do.
    fn keeps_bare_line_feeds(self) -> bool {
        match self {
            House::Postfix | House::Exim | House::OpenSmtpd => true,
            House::Haraka | House::Aiosmtpd => false,
        }
    }

    /// The command that is the server, inside its room.
    fn room_command(self) -> &'static [&'static str] {
        match self {
            House::Postfix => &["/mnt/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix"],
            House::Exim => &["/mnt/usr/sbin/exim4", "-bdf"],
            House::OpenSmtpd => &["/mnt/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"],
            House::Haraka | House::Aiosmtpd => &[],
        }
    }
}

/// What a server does with the mail that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It keeps it, whoever it is for.
    Receiver,
    /// It hands all of it to this one.
    Sender(SocketAddr),
}

/// The user that peers log in with, and that log in to peers, under TLS: name and password.
pub(crate) const LOGIN: (&str, &str) = ("tim", "geheim");

/// A running server of another house. Dropping it ends it and all that it started.
#[derive(Debug)]
pub(crate) struct Peer {
    house: House,
    address: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl Peer {
    /// One that takes mail for everybody and keeps it.
    pub(crate) fn receiver(house: House) -> Peer {
        Peer::start(house, Role::Receiver, None)
    }

    /// One that also offers STARTTLS, with a certificate for its address, and all but Postfix, OpenSMTPD and
    /// aiosmtpd then a login for [`LOGIN`].
    pub(crate) fn secure_receiver(house: House, authority: &Authority) -> Peer {
        Peer::start(house, Role::Receiver, Some(authority))
    }

    /// One that sends all the mail that it is given to `relay`.
    pub(crate) fn sender(house: House, relay: SocketAddr) -> Peer {
        Peer::start(house, Role::Sender(relay), None)
    }

    /// One that does so only by TLS with a certificate of `authority` for `localhost`; Exim logs in.
    pub(crate) fn secure_sender(house: House, relay: SocketAddr, authority: &Authority) -> Peer {
        Peer::start(house, Role::Sender(relay), Some(authority))
    }

    fn start(house: House, role: Role, authority: Option<&Authority>) -> Peer {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let address = own_address();
        let keys = folder.path().join("etc/tls");
        if let Some(authority) = authority {
            std::fs::create_dir_all(&keys).expect("a new directory can be written");
            authority.write(&keys.join("ca.pem"));
            let made = authority.certify(&keys, &[&address.ip().to_string()]);
            std::fs::rename(made.chain, keys.join("cert.pem")).expect("it was just made");
            std::fs::rename(made.key, keys.join("key.pem")).expect("it was just made");
        }
        let secure = authority.is_some();
        let process = match house {
            House::Postfix | House::Exim | House::OpenSmtpd => {
                furnish(&source(house.name()).join("etc"), folder.path(), "etc", |text| {
                    filled_in(text, house, address, role, secure)
                });
                in_room(house, folder.path())
            }
            House::Haraka => {
                furnish(&source(house.name()), folder.path(), "haraka", |text| {
                    let mail = folder.path().join("mail").display().to_string();
                    filled_in(text, house, address, role, secure).replace("@MAIL@", &mail)
                });
                if secure {
                    for name in ["cert.pem", "key.pem"] {
                        let to = folder.path().join(format!("haraka/config/tls_{name}"));
                        std::fs::copy(keys.join(name), to).expect("room on the disk");
                    }
                }
                Tool::new("node")
                    .arg(Tool::folder("node").join("node_modules/Haraka/bin/haraka"))
                    .arg("-c")
                    .arg(folder.path().join("haraka"))
                    .spawn()
            }
            House::Aiosmtpd => {
                let tool = Tool::python("receiver.py").arg(address.to_string());
                let tool = tool.arg(folder.path().join("digests")).arg(folder.path().join("mail"));
                let files = if secure { &["cert.pem", "key.pem"][..] } else { &[] };
                files.iter().fold(tool, |tool, name| tool.arg(keys.join(name))).spawn()
            }
        };
        let mut peer = Peer { house, address, process, folder };
        peer.await_greeting();
        println!("{} {}", house.name(), versions()[house.name()]);
        peer
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn await_greeting(&mut self) {
        let what = format!("{} listening on {}", self.house.name(), self.address);
        let greets = |peer: &mut Peer| {
            if let Some(status) = peer.process.try_wait() {
                panic!(
                    "{} ended at once ({status}); the servers of others run in mount and process \
                     namespaces of their own, which takes root, and in a container CAP_SYS_ADMIN\n{peer}",
                    peer.house.name()
                );
            }
            let mut client = SmtpClient::connect(peer.address).ok()?;
            let greeting = client.reply().ok()?;
            let _ = client.command("QUIT");
            (greeting.code == 220).then_some(())
        };
        eventually(&what, PATIENCE, || greets(self));
        // What ends the room is the end of its first process, which is our child's child.
        if !self.house.room_command().is_empty() {
            let first = self.first_of_room();
            self.process.set_pid(first);
        }
    }

    /// The process that is number 1 in the room.
    fn first_of_room(&self) -> i32 {
        let pid = self.process.child_pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        let first = children.split_whitespace().next().and_then(|word| word.parse().ok());
        first.unwrap_or_else(|| panic!("{path} names no process: {children:?}\n{self}"))
    }

    /// Runs `command` in the room, with the file `input` as its standard input, to its end, which must
    /// be success.
    pub(crate) fn run_inside(&self, command: &[&str], input: &Path) -> String {
        let mut inside = Command::new("nsenter");
        inside.args(["-t", &self.process.pid().to_string(), "-m", "-p", "--"]).args(command);
        inside.stdin(std::fs::File::open(input).expect("the input of a command can be opened"));
        let mut process = Process::spawn(command[0], &mut inside);
        let status = process.wait(PATIENCE);
        assert!(status.success(), "{status}\n{process}\n{self}");
        process.stdout.complete()
    }

    /// All mail that it has kept for `local_part`, with lines that end as they came.
    pub(crate) fn kept(&self, local_part: &str) -> Vec<Received> {
        let files = self.folder.path().join("mail").join(local_part).join("new");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(files)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        paths.sort();
        let read = |path: &PathBuf| {
            let octets = std::fs::read(path).expect("a kept mail can be read");
            Received::new(if self.house.keeps_bare_line_feeds() {
                with_carriage_returns(&octets)
            } else {
                octets
            })
        };
        paths.iter().map(read).collect()
    }

    /// The one mail that it keeps for `local_part`, as soon as it is there.
    pub(crate) fn await_kept(&self, local_part: &str, deadline: Duration) -> Received {
        let kept = within(deadline, || {
            let kept = self.kept(local_part);
            (!kept.is_empty()).then_some(kept)
        });
        let mut kept = kept.unwrap_or_else(|| panic!("no mail for {local_part}\n{self}"));
        assert_eq!(kept.len(), 1, "mails for {local_part}\n{self}");
        kept.remove(0)
    }

    /// Whether one of its log files contains `text`.
    pub(crate) fn logged(&self, text: &str) -> bool {
        let files =
            std::fs::read_dir(self.folder.path().join("log")).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| std::fs::read(file.path()).ok());
        texts.any(|log| find(&log, text.as_bytes()).is_some())
    }

    /// How many mails it has kept, for whomever.
    pub(crate) fn count(&self) -> usize {
        let boxes = std::fs::read_dir(self.folder.path().join("mail"));
        let files = |path: PathBuf| std::fs::read_dir(path.join("new")).map_or(0, Iterator::count);
        boxes.map_or(0, |boxes| boxes.flatten().map(|entry| files(entry.path())).sum())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // What the process itself wrote is shown by its own drop.
        if std::thread::panicking() {
            eprintln!("{}", Logs(self.folder.path()));
        }
    }
}

/// What it wrote, for a panic message.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.process, Logs(self.folder.path()))
    }
}

/// The ends of the log files of a peer.
struct Logs<'a>(&'a Path);

impl fmt::Display for Logs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in std::fs::read_dir(self.0.join("log")).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                let text =
                    String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default())
                        .into_owned();
                let from = text.len().saturating_sub(LOG_BYTES_SHOWN_MAX);
                let shown = &text[text.ceil_char_boundary(from)..];
                writeln!(f, "--- {}:\n{shown}", entry.path().display())?;
            }
        }
        Ok(())
    }
}

/// Of each log file a panic shows the end.
const LOG_BYTES_SHOWN_MAX: usize = 8 << 10;

/// What was fetched, with its version, by name.
pub(crate) fn versions() -> BTreeMap<String, String> {
    let stamps = std::fs::read_dir(Tool::folder("stamp")).expect("tests/tools/fetch.sh has run");
    let names = stamps.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let split = |name: String| {
        let (tool, version) = name.trim_end_matches('_').split_once('_')?;
        Some((tool.to_owned(), version.to_owned()))
    };
    names.filter_map(split).collect()
}

/// An address of this machine that nobody else uses, and a port of it that the system picked.
fn own_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // 127.64.0.0/10 by process and number: 16,384 processes, 256 addresses each.
    let number = (std::process::id() << 8 | (TAKEN.fetch_add(1, Relaxed) & 0xff)) & 0x003f_ffff;
    let address = Ipv4Addr::from_bits(0x7f40_0000 | number);
    let listener = TcpListener::bind((address, 0)).expect("every address of 127/8 is ours");
    listener.local_addr().expect("a bound socket has an address")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Starts the server in a room below `folder`.
fn in_room(house: House, folder: &Path) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
    command.arg(source("room.sh")).arg(folder).arg(Tool::folder("deb").join(house.name()));
    command.args(house.room_command()).stdin(Stdio::null());
    Process::spawn(house.name(), &mut command)
}

/// Copies the folder `from` to `folder/name`, each file with its placeholders filled in.
fn furnish(from: &Path, folder: &Path, name: &str, fill_in: impl Fn(&str) -> String + Copy) {
    let to = folder.join(name);
    std::fs::create_dir_all(&to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the settings of a peer are there").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            furnish(&path, &to, &name, fill_in);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("settings are text");
        std::fs::write(to.join(&name), fill_in(&text)).expect("settings can be written");
        let mode = std::fs::metadata(&path).expect("it was just read").permissions();
        std::fs::set_permissions(to.join(&name), mode).expect("our own file");
    }
}

fn filled_in(text: &str, house: House, address: SocketAddr, role: Role, secure: bool) -> String {
    let role = match (house, role) {
        (House::Postfix, Role::Receiver) if secure => {
            "virtual_mailbox_domains = static:all\nsmtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = /etc/tls/key.pem, /etc/tls/cert.pem\n\
             smtpd_tls_received_header = yes"
                .to_owned()
        }
        (House::Postfix, Role::Receiver) => "virtual_mailbox_domains = static:all".to_owned(),
        (House::Postfix, Role::Sender(relay)) => {
            let relay =
                format!("virtual_mailbox_domains =\nrelayhost = [localhost]:{}", relay.port());
            let secured = "\nsmtp_tls_security_level = verify\nsmtp_tls_CAfile = /etc/tls/ca.pem";
            relay + if secure { secured } else { "" }
        }
        (House::Exim, role) => {
            let relay = match role {
                Role::Sender(relay) => format!("RELAY_PORT = {}\n", relay.port()),
                Role::Receiver => String::new(),
            };
            relay + if secure { "SECURE = yes" } else { "" }
        }
        (House::OpenSmtpd, Role::Receiver) if secure => {
            "pki peer cert \"/etc/tls/cert.pem\"\npki peer key \"/etc/tls/key.pem\"".to_owned()
        }
        (House::Haraka, Role::Receiver) if secure => "tls\nauth/flat_file".to_owned(),
        (House::OpenSmtpd | House::Haraka | House::Aiosmtpd, Role::Receiver) => String::new(),
        (House::OpenSmtpd | House::Haraka | House::Aiosmtpd, Role::Sender(_)) => {
            panic!("{} is no sender here", house.name())
        }
    };
    text.replace("@ADDRESS@", &address.ip().to_string())
        .replace("@PORT@", &address.port().to_string())
        .replace("@ROLE@", &role)
        .replace("@SECURE@", if secure { "tls pki peer" } else { "" })
}

fn with_carriage_returns(octets: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(octets.len() + octets.len() / 16);
    for &octet in octets {
        if octet == b'\n' {
            made.push(b'\r');
        }
        made.push(octet);
    }
    made
}
