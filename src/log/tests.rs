//! Tests of the log as its callers see it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::handle::QUEUE_LINES_MAX;
use super::limit::{LIMITED_LINES_MAX, LIMITED_WINDOW_MS};
use super::line::{Line, TEXT_BYTES_MAX, TEXT_LINES_MAX, capped};
use super::{Level, Log, LogError, LogThread, Target};

/// 2019-09-23 12:46:56 UTC.
const SAMPLE_MS: u64 = 1_569_242_816_000;
/// Far beyond what a test needs; it only ends tests that hang.
const WAIT: Duration = Duration::from_secs(60);

/// A place that remembers what was written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn page_log(level: Level) -> (Page, Log, LogThread) {
    let page = Page::default();
    let (log, thread) = Log::to_writer(page.clone(), level).unwrap();
    (page, log, thread)
}

fn rendered(part: &'static str, text: &str) -> String {
    let line = Line { level: Level::Info, part, unix_ms: SAMPLE_MS, text: capped(text) };
    let mut out = String::new();
    let count = line.render("S", &mut out);
    assert_eq!(count, out.lines().count());
    out
}

#[test]
fn a_line_has_the_shape_that_scrapers_know() {
    let (page, log, thread) = page_log(Level::Info);
    let at = || SAMPLE_MS;
    log.write_at(at, Level::Critical, "smtp", "text");
    log.write_at(at, Level::Warning, "plugin", format_args!("{} more", 1));
    log.write_at(at, Level::Info, "queue", "last");
    thread.finish(WAIT).unwrap();
    let expected = "[Critical] [2019-09-23 12:46:56] [smtp] text\n\
                    [Warning] [2019-09-23 12:46:56] [plugin] 1 more\n\
                    [Info] [2019-09-23 12:46:56] [queue] last\n";
    assert_eq!(page.text(), expected);
}

#[test]
fn levels_below_the_chosen_one_are_not_written_nor_formatted() {
    struct Bomb;
    impl std::fmt::Display for Bomb {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted for nothing")
        }
    }
    let (page, log, thread) = page_log(Level::Warning);
    log.info("smtp", Bomb);
    log.limited("kind", Level::Debug, "smtp", Bomb);
    assert!(log.enabled(Level::Warning) && !log.enabled(Level::Info));
    thread.finish(WAIT).unwrap();
    assert_eq!(page.text(), "");
    Log::none().critical("smtp", Bomb);
    assert!(!Log::none().enabled(Level::Critical));
}

#[test]
fn d_b1_text_cannot_forge_a_line() {
    let cases = [
        ("plain", "[Info] [S] [smtp] plain\n"),
        ("a\nb", "[Info] [S] [smtp] a\\nb\n"),
        ("a\r\nb\r\n", "[Info] [S] [smtp] a\\r\\nb\n"),
        ("a\rb", "[Info] [S] [smtp] a\\rb\n"),
        ("a\tb", "[Info] [S] [smtp] a b\n"),
        ("\u{1b}[2J", "[Info] [S] [smtp] \\u{1b}[2J\n"),
        ("\u{202e}x\u{2028}y", "[Info] [S] [smtp] \\u{202e}x\\u{2028}y\n"),
        ("nul\0", "[Info] [S] [smtp] nul\\u{0}\n"),
        ("grün", "[Info] [S] [smtp] grün\n"),
        ("", "[Info] [S] [smtp] \n"),
        ("\n", "[Info] [S] [smtp] \n"),
    ];
    for (text, expected) in cases {
        assert_eq!(rendered("smtp", text), expected, "{text:?}");
    }
    let lines = "[Info] [S] [plugin] a\n[Info] [S] [plugin] b\n";
    for text in ["a\nb", "a\r\nb\r\n"] {
        assert_eq!(rendered("plugin", text), lines, "{text:?}");
    }
}

#[test]
fn d_b1_text_is_capped_at_64_kib_and_on_a_character() {
    let exact = "x".repeat(TEXT_BYTES_MAX - " [cut]".len());
    assert_eq!(&*capped(&exact), exact);
    let long = capped("ü".repeat(TEXT_BYTES_MAX));
    assert!(long.len() <= TEXT_BYTES_MAX && long.ends_with("ü [cut]"));
    assert_eq!(capped(format_args!("{exact}{exact}{exact}")).len(), TEXT_BYTES_MAX);
}

#[test]
fn a_text_of_newlines_becomes_a_bounded_number_of_lines() {
    let text = format!("{}x", "\n".repeat(TEXT_BYTES_MAX / 2));
    let out = rendered("plugin", &text);
    assert_eq!(out.lines().count(), TEXT_LINES_MAX);
    assert!(out.lines().next_back().unwrap().ends_with("\\n\\nx"));
}

/// A place that lets one write through for each permission, and says when one begins.
struct Gate {
    page: Page,
    begun: Sender<()>,
    permits: Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The test drops its ends when it stops caring.
        let _ = self.begun.send(());
        let _ = self.permits.recv();
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated_log() -> (Page, Log, LogThread, Receiver<()>, Sender<()>) {
    let page = Page::default();
    let (begun_in, begun) = bounded(1024);
    let (permit, permits) = bounded(0);
    let gate = Gate { page: page.clone(), begun: begun_in, permits };
    let (log, thread) = Log::to_writer(gate, Level::Info).unwrap();
    (page, log, thread, begun, permit)
}

#[test]
fn a_full_queue_drops_lines_and_the_count_is_in_the_log() {
    let (page, log, thread, begun, permit) = gated_log();
    log.info("smtp", "first");
    begun.recv_timeout(WAIT).unwrap();
    for number in 0..QUEUE_LINES_MAX + 7 {
        log.info("smtp", number);
    }
    drop((permit, begun));
    thread.finish(WAIT).unwrap();
    let text = page.text();
    assert!(text.contains("] [log] 7 lines were dropped here\n"));
    assert_eq!(text.lines().count(), 1 + QUEUE_LINES_MAX + 1);
}

#[test]
fn waiting_texts_are_bounded_in_bytes() {
    let (page, log, thread, begun, permit) = gated_log();
    log.info("smtp", "first");
    begun.recv_timeout(WAIT).unwrap();
    let text = "x".repeat(1 << 15);
    for _ in 0..200 {
        log.info("smtp", &text);
    }
    drop((permit, begun));
    thread.finish(WAIT).unwrap();
    let fit = super::handle::QUEUE_BYTES_MAX / text.len();
    assert!(page.text().contains(&format!("{} lines were dropped", 200 - fit)));
}

#[test]
fn a_stop_waits_no_longer_than_it_is_told() {
    let (_page, log, thread, begun, permit) = gated_log();
    log.info("smtp", "stuck");
    begun.recv_timeout(WAIT).unwrap();
    assert!(matches!(thread.finish(Duration::ZERO), Err(LogError::Slow(Duration::ZERO))));
    drop(permit);
}

#[test]
fn a_place_that_fails_says_so_when_it_works_again() {
    struct Broken(Page, u32);
    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 > 0 {
                self.1 -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let page = Page::default();
    let (log, thread) = Log::to_writer(Broken(page.clone(), 2), Level::Info).unwrap();
    for text in ["lost", "lost\ntoo", "kept"] {
        log.write_at(|| SAMPLE_MS, Level::Info, "plugin", text);
        thread.flush(WAIT).unwrap();
    }
    let expected = "[Warning] [2019-09-23 12:46:56] [log] 3 lines before these could not be \
                    written\n[Info] [2019-09-23 12:46:56] [plugin] kept\n";
    assert_eq!(page.text(), expected);
}

#[test]
fn a_peer_cannot_flood_and_what_was_left_out_is_counted() {
    let (page, log, thread) = page_log(Level::Info);
    let say = |ms: u64, kind| {
        log.limited_at(|| SAMPLE_MS + ms, kind, Level::Info, "smtp", "bad");
    };
    (0..LIMITED_LINES_MAX + 5).for_each(|_| say(0, "bad-command"));
    say(0, "other-kind");
    say(LIMITED_WINDOW_MS, "bad-command");
    say(3 * LIMITED_WINDOW_MS, "bad-command");
    thread.finish(WAIT).unwrap();
    let text = page.text();
    assert_eq!(text.lines().count(), LIMITED_LINES_MAX as usize + 3);
    assert_eq!(text.matches("(5 more of this kind were left out)").count(), 1);
}

#[test]
fn a_flood_from_many_threads_passes_exactly_its_share() {
    let (page, log, thread) = page_log(Level::Info);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    log.limited_at(|| SAMPLE_MS, "kind", Level::Info, "smtp", "bad");
                }
            });
        }
    });
    thread.finish(WAIT).unwrap();
    assert_eq!(page.text().lines().count(), LIMITED_LINES_MAX as usize);
}

mod files {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A directory of this test's own, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rohrpost-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn start(path: PathBuf) -> (Log, LogThread) {
        let targets = [Target::File(path)];
        Log::start(&targets, Level::Info).unwrap()
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again_when_asked() {
        let directory = Directory::new("reopen");
        let (path, moved) = (directory.0.join("log"), directory.0.join("log.1"));
        fs::write(&path, "before\n").unwrap();
        let (log, thread) = start(path.clone());
        log.info("main", "one");
        thread.flush(WAIT).unwrap();
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.info("main", "two");
        thread.finish(WAIT).unwrap();
        let old = fs::read_to_string(&moved).unwrap();
        assert!(old.starts_with("before\n[Info]") && old.ends_with("[main] one\n"));
        assert!(fs::read_to_string(&path).unwrap().ends_with("[main] two\n"));
    }

    #[test]
    fn a_file_that_was_moved_is_noticed_within_a_second_of_log_time() {
        let directory = Directory::new("moved");
        let (path, moved) = (directory.0.join("log"), directory.0.join("log.1"));
        let (log, thread) = start(path.clone());
        log.write_at(|| SAMPLE_MS, Level::Info, "main", "one");
        thread.flush(WAIT).unwrap();
        fs::rename(&path, &moved).unwrap();
        log.write_at(|| SAMPLE_MS + 1000, Level::Info, "main", "two");
        thread.finish(WAIT).unwrap();
        assert!(fs::read_to_string(&moved).unwrap().ends_with("one\n"));
        assert!(fs::read_to_string(&path).unwrap().ends_with("two\n"));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let directory = Directory::new("missing");
        let path = directory.0.join("not/there");
        let targets = [Target::File(path.clone())];
        let error = Log::start(&targets, Level::Info).unwrap_err();
        assert_eq!(error.to_string(), format!("the log {} cannot be opened", path.display()));
    }

    #[test]
    fn d_b2_no_target_means_no_log() {
        let targets = [];
        let (log, thread) = Log::start(&targets, Level::Info).unwrap();
        assert!(!log.enabled(Level::Critical));
        thread.finish(WAIT).unwrap();
    }

    #[test]
    fn places_and_level_change_without_losing_a_line() {
        let directory = Directory::new("redirect");
        let (old, new) = (directory.0.join("old"), directory.0.join("new"));
        let (log, thread) = start(old.clone());
        log.info("main", "one");
        log.debug("main", "not yet");
        log.redirect(&[Target::File(new.clone())], Level::Debug).unwrap();
        log.debug("main", "two");
        let missing = [Target::File(directory.0.join("not/there"))];
        assert!(log.redirect(&missing, Level::Info).is_err());
        log.debug("main", "three");
        log.redirect(&[], Level::Debug).unwrap();
        assert!(!log.enabled(Level::Critical));
        thread.finish(WAIT).unwrap();
        let lines = |path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&old), lines(&new)), (1, 2));
    }
}
