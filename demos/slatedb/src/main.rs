//! SlateDB: what stays in memory after a scan, when the application keeps one value in a hundred,
//! and when the block cache keeps blocks.
//!
//! SlateDB comes from the registry as it is. One row is of a build in which the one function that
//! copies a block for the cache is another; `run` makes that build.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use slatedb::Db;
use slatedb::config::{FlushOptions, FlushType, ScanOptions, Settings, SstBlockSize};
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use tailpin_arena::{Arena, bytes::detach};
use tailpin_demos::arms::{arm, file_after, median, numbers_of, picture};
use tailpin_demos::cost::{cpu_seconds, held, machine, mib};
use tailpin_demos::picture::{Bar, Panel, bars};
use tailpin_object_store::ArenaStore;

const RUNS: usize = 3;
const READ_AHEAD: usize = 4 << 20;
const CACHE: u64 = 16 << 20;

/// A database of 64 MiB.
struct Data {
    name: &'static str,
    rows: u64,
    value: usize,
    block: SstBlockSize,
    /// Whether blocks begin at multiples of their size.
    aligned: bool,
}

const DATA: [Data; 2] = [
    Data {
        name: "values of 16 KiB in blocks of 64 KiB",
        rows: 4096,
        value: 16 << 10,
        block: SstBlockSize::Block64Kib,
        aligned: false,
    },
    Data {
        name: "values of 2 KiB in blocks of 4 KiB",
        rows: 32_768,
        value: 2 << 10,
        block: SstBlockSize::Block4Kib,
        aligned: true,
    },
];

/// Who keeps what, and by which code.
struct Arm {
    name: &'static str,
    store: Store,
    keeps: Keeps,
    /// Whether it is of the build with the other function.
    swapped: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Store {
    Stock,
    Arena,
}

#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// The application, of one value in a hundred, what it was given.
    AsGiven,
    /// A copy of that.
    Copy,
    /// What `detach` makes of it.
    Detached,
    /// The block cache, as SlateDB does.
    Cache,
}

const ARMS: [Arm; 6] = [
    Arm { name: "app keeps 1 %, stock", store: Store::Stock, keeps: Keeps::AsGiven, swapped: false },
    Arm { name: "app copies 1 %, stock", store: Store::Stock, keeps: Keeps::Copy, swapped: false },
    Arm { name: "app keeps 1 %, arena", store: Store::Arena, keeps: Keeps::AsGiven, swapped: false },
    Arm { name: "Tailpin: detach 1 %", store: Store::Arena, keeps: Keeps::Detached, swapped: false },
    Arm { name: "cache 16 MiB, as shipped", store: Store::Stock, keeps: Keeps::Cache, swapped: false },
    Arm { name: "Tailpin: cache swapped", store: Store::Arena, keeps: Keeps::Cache, swapped: true },
];

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(arm) = arm() {
        let data = &DATA[std::env::var("DEMO_DATA")?.parse::<usize>()?];
        let folder = std::env::var("DEMO_FOLDER")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return runtime.block_on(async {
            match arm.parse::<usize>() {
                Ok(arm) => scan(&ARMS[arm], data, Path::new(&folder)).await,
                Err(_) => write(data, Path::new(&folder)).await,
            }
        });
    }
    println!("{}", machine());
    println!("median of {RUNS} runs, each in a process of its own; 64 MiB scanned, read-ahead of 4 MiB");
    let folder = std::env::temp_dir().join(format!("tailpin-slatedb-{}", std::process::id()));
    let panels = measure(&folder);
    std::fs::remove_dir_all(&folder)?;
    let panels = panels?;
    if let Some(path) = picture() {
        std::fs::write(path, bars(&panels))?;
    }
    Ok(())
}

fn measure(folder: &Path) -> Result<Vec<Panel>, Box<dyn Error>> {
    let this = std::env::current_exe()?;
    let swapped = file_after("--swapped");
    if swapped.is_none() {
        println!("without --swapped the row of the cache with the other function is left out");
    }
    let mut panels = Vec::new();
    for (i, data) in DATA.iter().enumerate() {
        let of_data = folder.join(i.to_string());
        std::fs::create_dir_all(&of_data)?;
        let of_data = of_data.to_str().ok_or("the temporary folder's name is no text")?.to_owned();
        let number = i.to_string();
        let set = [("DEMO_FOLDER", &*of_data), ("DEMO_DATA", &*number), ("MALLOC_ARENA_MAX", "1")];
        numbers_of(&this, "write", 1, &set)?;
        println!("\n{:<40} {:>9} {:>10} {:>9}", data.name, "alive", "held", "CPU");
        let mut panel = Panel { title: format!("Held after a scan: {}", data.name), bars: Vec::new() };
        for (number, arm) in ARMS.iter().enumerate() {
            let program = match (arm.swapped, &swapped) {
                (false, _) => &this,
                (true, Some(program)) => program,
                (true, None) => continue,
            };
            let runs = numbers_of(program, &number.to_string(), RUNS, &set)?;
            let [alive, held, cpu] = [0, 1, 2].map(|column| median(&runs, column));
            println!("  {:<38} {alive:>5.1} MiB {held:>6.1} MiB {:>6.0} ms", arm.name, cpu * 1e3);
            let told = format!("{held:.1} MiB, {:.0} ms of CPU", cpu * 1e3);
            let ours = arm.name.starts_with("Tailpin");
            panel.bars.push(Bar { name: arm.name.to_owned(), value: held, told, ours });
        }
        panels.push(panel);
    }
    Ok(panels)
}

fn settings() -> Settings {
    Settings {
        compactor_options: None,
        garbage_collector_options: None,
        l0_max_ssts: 64,
        l0_max_ssts_per_key: 64,
        ..Settings::default()
    }
}

/// The value of a key: any two differ, and none compresses.
fn value(key: u64, len: usize) -> Vec<u8> {
    let mut seed = key;
    let mut word = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed ^ seed >> 31).to_le_bytes()
    };
    (0..len / 8).flat_map(|_| word()).collect()
}

async fn write(data: &Data, folder: &Path) -> Result<(), Box<dyn Error>> {
    let files = Arc::new(LocalFileSystem::new_with_prefix(folder)?);
    let db = Db::builder("db", files)
        .with_settings(settings())
        .with_sst_block_size(data.block)
        .with_sst_block_alignment(data.aligned)
        .build()
        .await?;
    for key in 0..data.rows {
        db.put(key.to_be_bytes(), value(key, data.value)).await?;
    }
    db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await?;
    db.close().await?;
    println!("0");
    Ok(())
}

async fn scan(arm: &Arm, data: &Data, folder: &Path) -> Result<(), Box<dyn Error>> {
    let files = LocalFileSystem::new_with_prefix(folder)?;
    let arena = Arena::builder().limit(512 << 20).build()?;
    let store: Arc<dyn ObjectStore> = match arm.store {
        Store::Stock => Arc::new(files),
        Store::Arena => Arc::new(ArenaStore::new(files, arena.clone())),
    };
    let builder = Db::builder("db", store).with_settings(settings()).with_sst_block_size(data.block);
    let caches = arm.keeps == Keeps::Cache;
    let builder = match caches {
        true => {
            let options = MokaCacheOptions { max_capacity: CACHE, time_to_live: None, time_to_idle: None };
            builder.with_db_cache(Arc::new(MokaCache::new_with_opts(options)), 0)
        }
        false => builder.with_db_cache_disabled(),
    };
    let db = builder.build().await?;
    // What opening read goes back on either side.
    arena.release(usize::MAX)?;
    let (before, started) = (held(), cpu_seconds());
    let options =
        ScanOptions { read_ahead_bytes: READ_AHEAD, cache_blocks: caches, ..ScanOptions::default() };
    let mut rows = db.scan_with_options::<std::ops::RangeFull>(.., &options).await?;
    let mut kept: Vec<(u64, Bytes)> = Vec::new();
    let mut seen = 0;
    while let Some(row) = rows.next().await? {
        let key = u64::from_be_bytes(row.key[..].try_into()?);
        seen += 1;
        // A hundredth, not evenly.
        if key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xffff < 655 {
            match arm.keeps {
                Keeps::AsGiven => kept.push((key, row.value)),
                Keeps::Copy => kept.push((key, Bytes::copy_from_slice(&row.value))),
                Keeps::Detached => kept.push((key, detach(&row.value))),
                Keeps::Cache => {}
            }
        }
    }
    drop(rows);
    // What is free goes back, as malloc's does in `held`.
    arena.release(usize::MAX)?;
    let cpu = cpu_seconds() - started;
    let held = held().saturating_sub(before);
    assert_eq!(seen, data.rows);
    for (key, kept) in &kept {
        assert_eq!(*kept, value(*key, data.value), "what is kept is what was written");
    }
    let alive: u64 = match caches {
        true => CACHE,
        false => kept.iter().map(|(_, value)| value.len() as u64).sum(),
    };
    println!("{} {} {cpu}", mib(alive), mib(held));
    db.close().await?;
    Ok(())
}
