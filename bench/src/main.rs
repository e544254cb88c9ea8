//! `make bench`: the product's figures beside the floors of the same machine in the same run.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]

use std::{path::Path, process::ExitCode};

use tidemill_bench::{
    floor,
    load::{self, Error, Product},
    report::{Direction, Figure, median, noise, table},
};

const SLOTS: usize = 16;
const CHAIN: usize = 120;
const FAN_OUT: usize = 2_000;
const NOOPS: usize = 9_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, path] = arguments.as_slice()
        && command == "mark"
    {
        // Before any runtime is made: the mark is what a task would write at its very start.
        return if load::mark(Path::new(path)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("not measured: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(measure()) {
        Ok(figures) => {
            println!("{}", table(&figures));
            println!("{}", serde_json::json!({ "figures": figures }));
            if figures.iter().all(Figure::is_kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("not measured: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure() -> Result<Vec<Figure>, Error> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let (dags, data, marks) = (root.join("dags"), root.join("data"), root.join("marks"));
    std::fs::create_dir_all(&dags)?;
    std::fs::create_dir_all(&data)?;
    let me = std::env::current_exe()?;
    load::write_chain(&dags, &me, &marks, CHAIN)?;
    load::write_fan_out(&dags, "processes", FAN_OUT, "command = [\"/bin/true\"]")?;
    load::write_fan_out(&dags, "noops", NOOPS, "operator = \"noop\"")?;
    let product = Product::start(&load::binary()?, &dags, &data, SLOTS)?;
    for dag in ["chain", "processes", "noops"] {
        product.wait_for_dag(dag).await?;
    }
    Ok(vec![
        hand_off(&product, root, &me, &marks).await?,
        processes(&product, root).await?,
        noops(&product).await?,
    ])
}

/// End of one task to start of the next, against one durable commit and one spawn.
async fn hand_off(product: &Product, root: &Path, me: &Path, marks: &Path) -> Result<Figure, Error> {
    product.run("chain").await?;
    let commits =
        floor::commits(root, 300).await.map_err(|error| Error::Unexpected(format!("floor: {error}")))?;
    let path = me.display().to_string();
    let other = root.join("floor.marks").display().to_string();
    let spawns = floor::spawns(&[&path, "mark", &other], root, 300).await?;
    let gaps = load::gaps(marks)?;
    if gaps.len() + 1 < CHAIN {
        return Err(Error::Unexpected(format!("{} of {CHAIN} marks", gaps.len() + 1)));
    }
    Ok(Figure {
        name: "hand-off p50: end of one task to start of the next, durable".to_owned(),
        achieved: median(&gaps),
        floor: median(&commits) + median(&spawns),
        floor_parts: format!("commit {:.2} + spawn {:.2}", median(&commits), median(&spawns)),
        budget: 2.0,
        unit: "ms".to_owned(),
        direction: Direction::Lower,
        noise: noise(&gaps).max(noise(&commits)).min(0.25),
    })
}

/// `/bin/true` fan-out, against a bare loop of as many slots. Both are taken three times, in turns.
async fn processes(product: &Product, root: &Path) -> Result<Figure, Error> {
    let (mut achieved, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        bare.push(floor::spawn_rate(root, SLOTS, FAN_OUT).await?);
        let run = product.run("processes").await?;
        achieved.push(rate(&run, FAN_OUT)?);
    }
    Ok(Figure {
        name: "fan-out of /bin/true, durable".to_owned(),
        achieved: median(&achieved),
        floor: median(&bare),
        floor_parts: String::new(),
        budget: 0.7,
        unit: "1/s".to_owned(),
        direction: Direction::Higher,
        noise: noise(&achieved).max(noise(&bare)).min(0.25),
    })
}

/// `noop` instances a second, from run creation to every instance terminal; an absolute budget.
async fn noops(product: &Product) -> Result<Figure, Error> {
    let mut achieved = Vec::new();
    for _ in 0..5 {
        let began = std::time::Instant::now();
        product.run("noops").await?;
        #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
        achieved.push(NOOPS as f64 / began.elapsed().as_secs_f64());
    }
    Ok(Figure {
        name: "fan-out of noop tasks, durable, request to answer".to_owned(),
        achieved: median(&achieved),
        floor: 1.0,
        floor_parts: "an absolute budget".to_owned(),
        budget: 50_000.0,
        unit: "1/s".to_owned(),
        direction: Direction::Higher,
        noise: noise(&achieved).min(0.25),
    })
}

fn rate(run: &serde_json::Value, count: usize) -> Result<f64, Error> {
    let seconds = load::span(run, "started_at", "finished_at")
        .ok_or_else(|| Error::Unexpected(format!("no instants in {run}")))?;
    #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
    Ok(count as f64 / seconds)
}
