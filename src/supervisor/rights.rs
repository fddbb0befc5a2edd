//! Root's rights: what is made with them, and giving them up for good (`user`).
//!
//! Root opens ports, reads keys, and makes the places that the user shall own; whatever the server
//! opens again later is opened as the user from the first time, so that nothing works until the
//! first log rotation only. Root never follows a name in a directory of the user's: what is there
//! already is only looked at, and used as the user.
//!
//! Must never: leave a thread behind with the rights of before, or a way back to them.
//!
//! **Diagnostics**: [`RightsError`], each with the command or the setting that mends it.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::{self, Gid, Uid, User};
use rustix::fs::{Dir, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::control::SOCKET_NAME;
use crate::crashes::CRASHES_NAME;
use crate::lock::LOCK_NAME;
use crate::log::Target;
use crate::queue::is_file_of_queue;
use crate::settings::Settings;

/// Why the server does not become the user that it shall be.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The system knows no such user.
    #[error("user {0} does not exist; `useradd --system {0}` makes it")]
    Unknown(String),
    /// The list of users could not be read.
    #[error("user {0} cannot be looked up: {1}")]
    Database(String, io::Error),
    /// Only root may become another user.
    #[error("user is {wanted}, and only root can become another; this is {own}")]
    NotRoot {
        /// As the settings say.
        wanted: String,
        /// Who runs the program.
        own: String,
    },
    /// The system did not let us, though we are root: a container without the capability.
    #[error("the server cannot become user {0} (it needs CAP_SETUID and CAP_SETGID): {1}")]
    Refused(String, io::Error),
    /// Some right is still there. Going on would be what `user` is to prevent.
    #[error("rights of root were not given up: {0}; this is a bug")]
    Kept(&'static str),
    /// A file or directory belongs to somebody else, who has used it before.
    #[error(
        "{} belongs to user number {owner}, and the server runs as {user}; `chown -R {user} {}` gives it away",
        path.display(), path.display()
    )]
    Foreign {
        /// What belongs to somebody else.
        path: PathBuf,
        /// To whom.
        owner: u32,
        /// To whom it should.
        user: String,
    },
    /// It could not be made, or not be given to the user.
    #[error("{} cannot be made for user {user}: {source}", path.display())]
    Place {
        /// What could not be made.
        path: PathBuf,
        /// For whom.
        user: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Somebody to become.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// The rights that this process has, and those that it shall keep.
#[derive(Debug)]
pub(super) struct Rights {
    /// Whom to become; `None` where the process stays who it is.
    account: Option<Account>,
    /// Nobody was named, and this is root.
    stays_root: bool,
}

impl Rights {
    /// Looks up whom the settings name.
    ///
    /// # Errors
    /// There is no such user, or it is another than this one, and this one is not root.
    pub(super) fn of(settings: &Settings) -> Result<Rights, RightsError> {
        let own = Uid::effective();
        let Some(name) = settings.general.user.clone() else {
            return Ok(Rights { account: None, stays_root: own.is_root() });
        };
        let account = look_up(name)?;
        if account.uid == own {
            return Ok(Rights { account: None, stays_root: false });
        }
        if !own.is_root() {
            let known = User::from_uid(own).ok().flatten();
            let own = known.map_or_else(|| own.to_string(), |user| user.name);
            return Err(RightsError::NotRoot { wanted: account.name, own });
        }
        Ok(Rights { account: Some(account), stays_root: false })
    }

    /// What an operator should be told of a server that keeps the rights of root.
    pub(super) fn warning(&self) -> Option<&'static str> {
        self.stays_root
            .then_some("the server runs as root and stays root, and so do its plugins; set `user`")
    }

    /// Makes what the user shall own and may not make: the queue directory, and log files in
    /// directories of root's.
    ///
    /// # Errors
    /// It cannot be made, or belongs to somebody else.
    pub(super) fn prepare(&self, settings: &Settings) -> Result<(), RightsError> {
        let Some(account) = &self.account else { return Ok(()) };
        account.make_queue_directory(&settings.queue.directory)?;
        for target in &settings.logging.targets {
            if let Target::File(path) = target {
                account.make_file(path)?;
            }
        }
        let records = [&settings.records.sent_file, &settings.records.received_file];
        for path in records.into_iter().flatten() {
            account.make_file(path)?;
        }
        Ok(())
    }

    /// Looks whether the queue directory, if there is one, belongs to the user.
    ///
    /// # Errors
    /// It belongs to somebody else.
    pub(super) fn inspect(&self, settings: &Settings) -> Result<(), RightsError> {
        let directory = &settings.queue.directory;
        match &self.account {
            Some(account) if directory.is_dir() => account.inspect(directory),
            Some(_) | None => Ok(()),
        }
    }

    /// Does something as the user, and is root again afterwards.
    ///
    /// # Errors
    /// The system does not allow it.
    pub(super) fn as_user<T>(&self, work: impl FnOnce() -> T) -> Result<T, RightsError> {
        let Some(account) = &self.account else { return Ok(work()) };
        let refused = |errno: nix::Error| account.refused(errno);
        let root = (Gid::effective(), Uid::effective());
        // Root has no use for groups of its own, so these stay.
        unistd::setgroups(&account.groups).map_err(refused)?;
        unistd::setegid(account.gid).map_err(refused)?;
        unistd::seteuid(account.uid).map_err(refused)?;
        let done = work();
        unistd::seteuid(root.1).map_err(refused)?;
        unistd::setegid(root.0).map_err(refused)?;
        Ok(done)
    }

    /// Becomes the user, with all threads, for good.
    ///
    /// # Errors
    /// The system does not allow it, or some right is left.
    pub(super) fn give_up(self) -> Result<(), RightsError> {
        let Some(account) = self.account else { return Ok(()) };
        let refused = |errno: nix::Error| account.refused(errno);
        unistd::setgroups(&account.groups).map_err(refused)?;
        unistd::setresgid(account.gid, account.gid, account.gid).map_err(refused)?;
        unistd::setresuid(account.uid, account.uid, account.uid).map_err(refused)?;
        account.verify()?;
        // Who changes its user is hidden from that user, its own threads in /proc and core dumps
        // included. What root alone may read is closed by now, or is the server's to keep.
        set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|errno| RightsError::Refused(account.name, errno.into()))
    }
}

fn look_up(name: String) -> Result<Account, RightsError> {
    let user = match User::from_name(&name) {
        Ok(Some(user)) => user,
        Ok(None) => return Err(RightsError::Unknown(name)),
        Err(error) => return Err(RightsError::Database(name, error.into())),
    };
    let groups = CString::new(name.as_str()).map_err(|_| nix::Error::EINVAL);
    let groups = groups.and_then(|text| unistd::getgrouplist(&text, user.gid));
    match groups {
        Ok(groups) => Ok(Account { name, uid: user.uid, gid: user.gid, groups }),
        Err(error) => Err(RightsError::Database(name, error.into())),
    }
}

impl Account {
    fn refused(&self, errno: nix::Error) -> RightsError {
        RightsError::Refused(self.name.clone(), errno.into())
    }

    fn place(&self, path: &Path) -> impl FnOnce(io::Error) -> RightsError {
        let (path, user) = (path.to_owned(), self.name.clone());
        move |source| RightsError::Place { path, user, source }
    }

    fn make_queue_directory(&self, directory: &Path) -> Result<(), RightsError> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => open_made(directory)
                .and_then(|made| self.give(&made))
                .map_err(self.place(directory)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.inspect(directory),
            Err(error) => Err(self.place(directory)(error)),
        }
    }

    /// Whether a queue directory that was there before, and what the server uses in it, belongs to
    /// the user. A server that ran as root once has left files that the user could not open; what
    /// others keep there is theirs, such as the `lost+found` of a file system of the queue's own.
    fn inspect(&self, directory: &Path) -> Result<(), RightsError> {
        let unusable = || self.place(directory);
        let whole = fs::metadata(directory).map_err(unusable())?;
        let mut owners = vec![whole.uid()];
        for entry in fs::read_dir(directory).map_err(unusable())? {
            // What vanishes meanwhile is nobody's.
            let Ok(entry) = entry else { continue };
            if entry.file_name().to_str().is_some_and(is_used) {
                owners.extend(entry.metadata().map(|found| found.uid()));
            }
        }
        match owners.into_iter().find(|owner| *owner != self.uid.as_raw()) {
            None => Ok(()),
            Some(owner) => Err(RightsError::Foreign {
                path: directory.to_owned(),
                owner,
                user: self.name.clone(),
            }),
        }
    }

    /// Gives away what was opened, whatever has its name meanwhile.
    fn give(&self, made: &File) -> io::Result<()> {
        fchown(made, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Makes a file for the user where there is none; one that is there is left alone, and so is
    /// what a link points to (`O_EXCL` follows none).
    fn make_file(&self, path: &Path) -> Result<(), RightsError> {
        let made = OpenOptions::new().append(true).create_new(true).mode(0o640).open(path);
        match made {
            Ok(file) => self.give(&file).map_err(self.place(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.place(path)(error)),
        }
    }

    /// Looks whether all rights are gone, in every thread, and stay gone.
    fn verify(&self) -> Result<(), RightsError> {
        let uids = unistd::getresuid().map_err(|errno| self.refused(errno))?;
        let gids = unistd::getresgid().map_err(|errno| self.refused(errno))?;
        if [uids.real, uids.effective, uids.saved] != [self.uid; 3]
            || [gids.real, gids.effective, gids.saved] != [self.gid; 3]
        {
            return Err(RightsError::Kept("the process has another user or group"));
        }
        if !self.uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err(RightsError::Kept("the process could become root again"));
        }
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for thread in threads {
            // A thread that has ended meanwhile has no rights.
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let kept = |field, id| ids(&status, field).any(|own| own != id);
            if kept("Uid:", self.uid.as_raw()) || kept("Gid:", self.gid.as_raw()) {
                return Err(RightsError::Kept("a thread has another user or group"));
            }
        }
        Ok(())
    }
}

/// Opens a directory that was just made. Its parent may belong to somebody who swaps it for a link
/// or another directory now: that is not opened, unless it is one of root's too, and empty.
fn open_made(directory: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let made =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(directory)?;
    let is_ours = made.metadata()?.uid() == Uid::effective().as_raw();
    let is_empty = || -> io::Result<bool> {
        let mut names =
            Dir::read_from(&made)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
        names.try_fold(true, |empty, name| {
            let name = name?;
            Ok(empty && [c".", c".."].contains(&name.as_c_str()))
        })
    };
    match is_ours && is_empty()? {
        true => Ok(made),
        false => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

/// Whether the server opens a file of this name in its queue directory.
fn is_used(name: &str) -> bool {
    [LOCK_NAME, SOCKET_NAME, CRASHES_NAME].contains(&name) || is_file_of_queue(name)
}

/// The numbers of a line of `/proc/PID/status`.
fn ids<'a>(status: &'a str, field: &str) -> impl Iterator<Item = u32> + 'a {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Machine;

    fn settings(user: Option<&str>) -> Settings {
        let mut settings = Settings::defaults(&Machine::detect());
        settings.general.user = user.map(str::to_owned);
        settings
    }

    #[test]
    fn staying_oneself_needs_no_rights() {
        let own = User::from_uid(Uid::effective()).unwrap().unwrap().name;
        let rights = Rights::of(&settings(Some(&own))).unwrap();
        assert_eq!((rights.account.clone(), rights.warning()), (None, None));
        assert_eq!(rights.as_user(|| 7).unwrap(), 7);
        rights.give_up().unwrap();
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = Rights::of(&settings(Some("nobody-of-that-name"))).unwrap_err();
        assert!(error.to_string().contains("useradd --system nobody-of-that-name"), "{error}");
    }

    #[test]
    fn only_root_is_warned_of_being_root() {
        let rights = Rights::of(&settings(None)).unwrap();
        assert_eq!(rights.warning().is_some(), Uid::effective().is_root());
    }

    #[test]
    fn the_numbers_of_a_thread_are_found() {
        let status = "Name:\tlog\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n";
        assert_eq!(ids(status, "Uid:").collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(ids(status, "Groups:").count(), 0);
    }

    #[test]
    fn a_queue_of_somebody_else_is_refused_with_the_command_that_mends_it() {
        let place = tempfile::tempdir().unwrap();
        let error = somebody_else().make_queue_directory(place.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("chown -R mail {}", place.path().display())), "{error}");
    }

    fn somebody_else() -> Account {
        let uid = Uid::from_raw(Uid::effective().as_raw() + 1);
        Account { name: "mail".into(), uid, gid: Gid::effective(), groups: Vec::new() }
    }

    /// Only root can give anything away; anybody can look at what is opened.
    #[test]
    fn what_takes_the_place_of_a_directory_that_was_made_is_not_given_away() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["queue", "loot"] {
            fs::create_dir(path(name)).unwrap();
        }
        let made = open_made(&path("queue")).unwrap();
        fs::rename(path("queue"), path("moved")).unwrap();
        std::os::unix::fs::symlink(path("loot"), path("queue")).unwrap();
        assert!(open_made(&path("queue")).is_err(), "a link is not followed");
        fs::write(path("loot").join("secret"), "").unwrap();
        assert!(open_made(&path("loot")).is_err(), "what was just made is empty");
        if !Uid::effective().is_root() {
            return;
        }
        let account = somebody_else();
        account.give(&made).unwrap();
        let owner = |name: &str| fs::metadata(path(name)).unwrap().uid();
        assert_eq!((owner("moved"), owner("loot")), (account.uid.as_raw(), 0));
    }

    #[test]
    fn only_files_of_the_server_must_belong_to_its_user() {
        let place = tempfile::tempdir().unwrap();
        let own = Account { uid: Uid::effective(), ..somebody_else() };
        fs::create_dir(place.path().join("lost+found")).unwrap();
        if own.uid.is_root() {
            std::os::unix::fs::chown(place.path().join("lost+found"), Some(1), None).unwrap();
        }
        assert!(own.inspect(place.path()).is_ok());
        for name in
            ["lock", "control", "crashes", "reserve", "00000000000000ff-ffffffffffffffff.log"]
        {
            assert!(is_used(name), "{name}");
            let file = place.path().join(name);
            fs::write(&file, "").unwrap();
            if own.uid.is_root() {
                std::os::unix::fs::chown(&file, Some(1), None).unwrap();
                assert!(own.inspect(place.path()).is_err(), "{name}");
            }
            fs::remove_file(file).unwrap();
        }
        assert!(!is_used("lost+found"));
    }
}
