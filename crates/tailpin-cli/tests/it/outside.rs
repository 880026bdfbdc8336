//! `top`, `map` and `holders`, looking at the program that runs the tests.

#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use tailpin::PAGE_SIZE as PAGE;
use tailpin_arena::Arena;
use tailpin_arena::shared::SharedArena;

const TAILPIN: &str = env!("CARGO_BIN_EXE_tailpin");
fn tailpin(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(TAILPIN).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The arena of this size in what a command says as JSON: tests that run beside have others.
fn told(args: &[&str], size: usize) -> Value {
    let (code, text, said) = tailpin(args);
    assert_eq!(code, Some(0), "{said}");
    let all: Value = serde_json::from_str(&text).unwrap();
    let arenas = all["arenas"].as_array().unwrap();
    arenas.iter().find(|arena| arena["size_bytes"] == size).unwrap_or_else(|| panic!("{text}")).clone()
}

#[test]
fn each_command_tells_of_an_arena_what_is_in_it() {
    let size = 70 << 20;
    let arena = Arena::builder().size(size).build().unwrap();
    let copy = arena.copy(b"a name").unwrap();
    let whole = arena.alloc(2 << 20).unwrap();
    let buffer = arena.alloc_tagged(2 << 20, "http-header").unwrap().freeze();
    let kept = [buffer.slice(0..200), buffer.slice(9 * PAGE..11 * PAGE)];
    drop(buffer);
    let me = std::process::id().to_string();

    let top = told(&["top", "--json", &me], size);
    let parts = [
        "in_use_whole",
        "in_use_pages",
        "in_use_fragments",
        "pinned_by_last_slice",
        "free",
        "without_memory",
        "set_aside",
    ];
    let sum: u64 = parts.iter().map(|part| top[format!("{part}_bytes")].as_u64().unwrap()).sum();
    assert_eq!(sum, size as u64, "{top:#}");
    assert_eq!(top["in_use_whole_bytes"], 2 << 20);
    assert_eq!(top["pinned_by_last_slice_bytes"], 3 * PAGE);
    assert_eq!(top["in_use_fragments_bytes"], PAGE);
    assert_eq!(top["in_use_bytes"], (2 << 20) + 4 * PAGE);
    assert!(top["largest_free_bytes"].as_u64().unwrap() >= 16 << 20, "{top:#}");
    assert_eq!((&top["changed_pageblocks"], &top["rates"]), (&Value::from(0), &Value::Null));
    assert_eq!(top["tags"][1]["tag"], "http-header");
    assert_eq!(top["holders_found"], 3);
    assert!(top["resident_bytes"].is_u64() && top["limit_bytes"].is_null());

    let map = told(&["map", "--json", &me], size);
    let pageblocks = map["pageblocks"].as_array().unwrap();
    let with = |field: &str, n: u64| pageblocks.iter().filter(|it| it[field] == n).count();
    assert_eq!((with("whole_pages", 512), with("last_slice_pages", 3)), (1, 1), "{map:#}");
    let at = pageblocks.iter().find(|it| it["last_slice_pages"] == 3).unwrap();
    let number = (at["offset_bytes"].as_u64().unwrap() >> 21).to_string();
    let zoomed = told(&["map", "--json", "--zoom", &number, &me], size);
    let pages: Vec<char> = zoomed["pages"].as_str().unwrap().chars().collect();
    assert_eq!(pages.len(), 512);
    let pinned: Vec<usize> = (0..512).filter(|i| pages[*i] == '1').collect();
    assert_eq!(pinned, [0, 9, 10]);

    let holders = told(&["holders", "--json", &me], size);
    let list = holders["holders"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    let tagged = list.iter().find(|it| it["tag"] == "http-header").unwrap();
    assert_eq!((&tagged["pins"], &tagged["references"]), (&Value::from(3), &Value::from(0)));
    assert_eq!(tagged["comes_back_bytes"], 3 * PAGE);
    assert_eq!(
        (&tagged["comes_back_pageblocks"], &tagged["buffer_bytes"]),
        (&Value::from(1), &Value::from(2 << 20))
    );
    assert!(list[0]["references"] == 1, "the fewest first: {holders:#}");
    let old = told(&["holders", "--older-than", "3600", "--json", &me], size);
    assert_eq!(old["holders"].as_array().unwrap().len(), 0);

    // The page that is being filled with copies stays.
    drop((whole, kept, copy));
    assert_eq!(told(&["top", "--once", "--json", &me], size)["in_use_bytes"], PAGE);
}

#[test]
fn pages_fit_and_say_what_was_looked_at() {
    let arena = Arena::builder().size(42 << 20).build().unwrap();
    let kept = arena
        .alloc_tagged(PAGE, "a tag with a name so long that no narrow terminal has room for it")
        .unwrap();
    let me = std::process::id().to_string();
    for command in ["top", "map", "holders"] {
        let (code, page, said) = tailpin(&[command, "--once", &me]);
        assert_eq!(code, Some(0), "{said}");
        assert!(page.contains(&format!("({me})")), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
        let wide: Vec<&str> = page.lines().filter(|line| line.chars().count() > 60).collect();
        assert!(
            command != "top" || wide.iter().all(|line| line.contains('█') || line.contains("tag")),
            "{wide:?}"
        );
    }
    let file = std::env::temp_dir().join(format!("tailpin-look-{me}.svg"));
    for command in ["top", "map"] {
        let (code, page, said) = tailpin(&[command, "--picture", file.to_str().unwrap(), &me]);
        assert_eq!((code, &*page), (Some(0), ""), "{said}");
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains(&format!("({me})")));
    }
    std::fs::remove_file(&file).unwrap();
    let (code, _, said) = tailpin(&["top", "--picture", "/no such folder/f.svg", &me]);
    assert!(code == Some(2) && said.contains("can't be written"), "{said}");
    drop(kept);
}

#[test]
fn a_shared_arena_is_told_by_its_file() {
    let shared = SharedArena::create(10 << 20, 2).unwrap();
    let block = shared.alloc(3 * PAGE).unwrap().freeze();
    let path = format!("/proc/{}/fd/{}", std::process::id(), shared.as_raw_fd());
    let top = told(&["top", "--json", &path], 10 << 20);
    assert_eq!((&top["in_use_bytes"], &top["age_s"]), (&Value::from(4 * PAGE), &Value::Null));
    let holders = told(&["holders", "--json", &path], 10 << 20);
    assert_eq!(holders["holders"][0]["pid"], std::process::id());
    assert_eq!(holders["holders"][0]["comes_back_bytes"], 4 * PAGE);
    // Its file by another name, which is no text.
    let mut link =
        std::env::temp_dir().join(format!("tailpin-shared-{}", std::process::id())).into_os_string();
    link.push(OsStr::from_bytes(b"\xff"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let output = Command::new(TAILPIN).args(["top", "--json"]).arg(&link).output().unwrap();
    std::fs::remove_file(&link).unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &all["arenas"][0]["in_use_bytes"]), (Some(0), &Value::from(4 * PAGE)));
    drop(block);
}

/// A program may call its memory, and itself, whatever it likes.
#[test]
fn names_give_no_orders_to_the_terminal() {
    let size = 38 << 20;
    let arena = Arena::builder().size(size).build().unwrap();
    let kept = arena.alloc_tagged(PAGE, "\x1b]0;title\x07\u{9b}2J\r").unwrap();
    let me = std::process::id().to_string();
    for command in ["top", "holders"] {
        let (code, page, said) = tailpin(&[command, "--once", &me]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            page.contains("]0;title") && !page.contains(|c: char| c.is_control() && c != '\n'),
            "{page:?}"
        );
    }
    let (code, _, said) = tailpin(&["top", "no\x1b[2Jfile"]);
    assert!(code == Some(2) && said.contains("[2Jfile") && !said.contains('\x1b'), "{said:?}");
    // Programs are told them as they are.
    assert_eq!(told(&["top", "--json", &me], size)["tags"][0]["tag"], "\x1b]0;title\x07\u{9b}2J\r");
    drop(kept);
}

#[test]
fn a_pageblock_that_there_is_not_is_refused() {
    let arena = Arena::builder().size(34 << 20).build().unwrap();
    let me = std::process::id().to_string();
    for json in [&["--once"][..], &["--json"]] {
        for number in ["1000000", "18446744073709551615"] {
            let (code, page, said) = tailpin(&[&["map", "--zoom", number, &me], json].concat());
            assert_eq!((code, &*page), (Some(2), ""), "{said}");
            assert!(said.contains(&format!("no pageblock {number}")), "{said}");
        }
    }
    drop(arena);
}

#[test]
fn what_can_not_be_shown_says_why() {
    let (code, _, said) = tailpin(&["top", "4194304000"]);
    assert!(code == Some(2) && said.contains("no process"), "{said}");
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let (code, _, said) = tailpin(&["map", &sleep.id().to_string()]);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(code == Some(2) && said.contains("has no arena"), "{said}");
    let (code, _, said) = tailpin(&["holders", "/proc/self/exe"]);
    assert!(code == Some(2) && said.contains("no shared arena"), "{said}");
    let (code, _, said) = tailpin(&["top", "/no such file"]);
    assert!(code == Some(2) && said.contains("/no such file"), "{said}");
}

/// On a terminal of 60 columns the command shows a page again and again until it is ended.
#[test]
fn on_a_terminal_it_goes_on_until_it_is_ended() {
    let arena = Arena::builder().size(46 << 20).build().unwrap();
    let kept = arena.alloc(PAGE).unwrap();
    for command in ["top", "map", "holders"] {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: 60, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let none = std::ptr::null_mut::<libc::termios>();
        // SAFETY: two descriptors are written, the size is read, the rest is left out.
        let opened = unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), none, &size) };
        assert_eq!(opened, 0);
        // SAFETY: the descriptors are new, and nothing else has them.
        let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let mut shown = Command::new(TAILPIN)
            .args([command, "--interval", "50", &std::process::id().to_string()])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut screen = Vec::new();
        let mut part = [0; 4096];
        let pages = |screen: &[u8]| {
            let text = String::from_utf8_lossy(screen).into_owned();
            // A live screen writes only what is new on it, and asks for keys.
            if cfg!(feature = "live") {
                usize::from(text.contains("ends"))
            } else {
                text.matches("\x1b[H").count()
            }
        };
        while pages(&screen) < if cfg!(feature = "live") { 1 } else { 3 } {
            let n = ours.read(&mut part).unwrap();
            screen.extend_from_slice(&part[..n]);
        }
        assert!(String::from_utf8_lossy(&screen).contains("arena 1 of") || screen.len() > 100);
        if cfg!(feature = "live") {
            ours.write_all(b"q").unwrap();
            // What it still writes must be read, or it waits for room; it ends as no process has
            // the other end any more.
            while ours.read(&mut part).is_ok_and(|n| n > 0) {}
            assert_eq!(shown.wait().unwrap().code(), Some(0), "{command}");
        } else {
            shown.kill().unwrap();
            shown.wait().unwrap();
        }
    }
    drop(kept);
}
