//! Scenarios: commented stories of events and time over the pure engine, with everything that follows.
//!
//! A file `tests/scenarios/*.scn` holds comments (`#`), commands (`$ …`, see [`command`]), DAG files (`| …` below
//! `$ dag`) and, indented below each command, what the engine did and what waits for what. The indented lines are
//! compared; `SCENARIO_UPDATE=1` writes them anew, and a reviewer reads the difference.

mod command;
mod show;
mod world;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

use self::{command::execute, world::World};

/// Runs one file and returns it with the output that belongs there.
fn play(text: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("  ") {
            // Output of an earlier time; what belongs here was written after the command.
            continue;
        }
        out.push_str(line);
        out.push('\n');
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut block = String::new();
        while let Some(inside) = lines.next_if(|line| line.starts_with('|')) {
            out.push_str(inside);
            out.push('\n');
            block.push_str(inside.strip_prefix("| ").unwrap_or(""));
            block.push('\n');
        }
        match catch_unwind(AssertUnwindSafe(|| execute(&mut world, command, &block))) {
            Ok(told) => told.iter().for_each(|line| out.push_str(&format!("  {line}\n"))),
            // With what had happened until then; the message of the panic stands above.
            Err(panic) => {
                println!("{out}");
                resume_unwind(panic);
            }
        }
    }
    out
}

#[test]
fn every_story_goes_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .collect();
    files.sort();
    let (mut wrong, mut commands) = (Vec::new(), 0);
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let played = play(&text);
        commands += text.lines().filter(|line| line.starts_with("$ ")).count();
        if played == text {
            continue;
        }
        if std::env::var_os("SCENARIO_UPDATE").is_some() {
            fs::write(path, played).unwrap();
            continue;
        }
        let number = played.lines().zip(text.lines()).take_while(|(new, old)| new == old).count();
        let at = |text: &str| text.lines().nth(number).unwrap_or("(the end)").to_owned();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        wrong.push(format!("{name}:{}\n  written: {}\n  played:  {}", number + 1, at(&text), at(&played)));
    }
    assert!(wrong.is_empty(), "{}\nSCENARIO_UPDATE=1 writes them anew", wrong.join("\n"));
    assert!(files.len() >= 12, "{} scenarios", files.len());
    println!("{} scenarios, {commands} commands", files.len());
}
