//! `list --watch`.

use crate::pty::Pty;
use crate::sandbox::Sandbox;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";

#[test]
fn a_watched_list_is_drawn_again_in_place_and_leaves_nothing_behind() {
    let sandbox = Sandbox::new().with_web();
    let mut watched = Pty::new(&sandbox, (80, 24), &["list", "--watch"]);
    watched.until("the first list", |said| said.contains("web"));
    let mail = sandbox.run(&["create", "mail", "--no-build", "--no-keys", "--quiet"]);
    assert_eq!(mail.code, 0, "{mail:?}");
    let drawn = watched.until("the next list", |said| said.contains("mail"));
    assert!(drawn.matches(HOME).count() > 1 && drawn.matches(ENTER).count() == 1, "{drawn:?}");
    watched.press("\x03");
    let said = watched.until("the end", |said| said.contains(LEAVE));
    assert_eq!(watched.code(), Some(0));
    assert!(said.ends_with(LEAVE), "{said:?}");
}

#[test]
fn a_watched_list_fits_into_a_small_terminal() {
    let sandbox = Sandbox::new().with_web();
    for name in ["db", "mail"] {
        let made = sandbox.run(&["create", name, "--no-build", "--no-keys", "--quiet"]);
        assert_eq!(made.code, 0, "{made:?}");
    }
    let watched = Pty::new(&sandbox, (12, 3), &["list", "--watch"]);
    let said = watched.until("two lists", |said| said.matches(HOME).count() > 2);
    let list = said.split(HOME).nth(1).unwrap();
    let lines: Vec<String> =
        list.split("\r\n").map(|line| console::strip_ansi_codes(line).into_owned()).collect();
    assert_eq!(lines, ["NAME  STAT…", "db    decl…", "… 2 more l…"], "{said:?}");
}

#[test]
fn nothing_is_watched_without_a_terminal() {
    let sandbox = Sandbox::new().with_web();
    for arguments in [&["list", "--watch"][..], &["list", "--watch", "--json"]] {
        let ended = sandbox.run(arguments);
        let said = ended.stdout.clone() + &ended.stderr;
        assert!(ended.code == 2 && said.contains("`--watch` shows nothing with"), "{ended:?}");
        assert!(!said.contains('\x1b'), "{ended:?}");
    }
}
