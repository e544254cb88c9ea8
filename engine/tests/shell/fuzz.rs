//! Random scripts: whatever the check accepts must treat a value as data in every shell.

use tidemill_engine::template::render_shell;

use super::{Folder, SHELLS, context, errors, run};

const PIECES: &[&str] = &[
    "{{ params.v }}",
    "{{ params.v }}",
    "{{ params.v }}",
    "{{ params.v }}",
    " ",
    " ",
    " ",
    "\n",
    "; ",
    "\"",
    "\"",
    "'",
    "'",
    "\\",
    "$",
    "$(",
    ")",
    "`",
    "${x:-",
    "${x}",
    "}",
    "$((",
    "))",
    "((",
    "printf '%s|' ",
    "printf '%s|' ",
    "\nprintf '%s|' ",
    "; printf '%s|' ",
    "x=",
    "x=",
    "\"$x\"",
    "cat <<E\n",
    "\nE\n",
    "cat <<'E'\n",
    "<<-E\n",
    "# ",
    "case a in ",
    "a) ",
    ";; ",
    "esac",
    "if :; then ",
    "; fi",
    "for y in ",
    "; do ",
    "; done",
    "( ",
    " )",
    "{ ",
    "; }",
    "&& ",
    "| cat",
    "[ -n ",
    "[ ",
    " ]",
    " = ",
    ": ",
    "true ",
    "a",
    "b=c",
    "2>&1",
    "export z=",
    "$'",
    "$\"",
    "f() ",
    "in ",
    "!",
    "{% if params.n > 2 %}",
    "{% else %}",
    "{% endif %}",
    "[[ ",
    " ]] ",
    "~",
    "*",
    "&",
    "|",
    "\t",
    "\r",
    "set -- a ",
    "local z=",
    "command ",
    "readonly z=",
    "1",
    "#",
];

/// What each script is run with, and what would be left of it if it were ever executed.
const PAYLOADS: &[&str] = &[
    "$(touch pwned)`touch pwned`",
    "\ntouch pwned\n",
    "'\"; touch pwned; #",
    "a[$(touch pwned)]",
    "-v",
    "); touch pwned; (",
    "E\ntouch pwned\n",
];

/// A small generator with a fixed sequence: a failure is repeated by running the test again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

fn script(random: &mut Random) -> String {
    let length = 4 + random.below(14);
    (0..length).map(|_| PIECES[random.below(PIECES.len())]).collect()
}

#[test]
fn random_scripts_that_are_accepted_never_execute_a_value() {
    let wanted = std::env::var("TIDEMILL_FUZZ_SCRIPTS").map_or(200, |count| count.parse::<usize>().unwrap());
    let mut random = Random(0x5eed_1234_abcd_ef01);
    let (mut made, mut accepted, mut runs) = (0_u32, 0, 0_u32);
    let folder = Folder::new();
    while accepted < wanted {
        let template = script(&mut random);
        made += 1;
        if !template.contains("{{") || template.contains("$$") || !errors(&template).is_empty() {
            continue;
        }
        accepted += 1;
        for shell in SHELLS {
            let marker = "MaRkEr";
            let plain = render_shell(&template, &context(marker)).unwrap();
            let (reference, reference_ok) = run(*shell, &plain.script, &plain.env, &folder);
            for payload in PAYLOADS {
                let rendered = render_shell(&template, &context(payload)).unwrap();
                assert_eq!(rendered.script, plain.script, "{template:?}");
                let (printed, is_ok) = run(*shell, &rendered.script, &rendered.env, &folder);
                runs += 1;
                let is_clean = !folder.files().contains(b"pwned".as_slice());
                assert!(is_clean, "{shell:?} executed {payload:?} in {template:?}\n{}", rendered.script);
                if reference_ok && is_ok {
                    let expected = String::from_utf8_lossy(&reference).replace(marker, payload);
                    assert_eq!(
                        String::from_utf8_lossy(&printed),
                        expected,
                        "{shell:?} {payload:?} in {template:?}\n{}",
                        rendered.script
                    );
                }
            }
        }
    }
    println!("scripts {made}, accepted {accepted}, runs {runs}");
}
