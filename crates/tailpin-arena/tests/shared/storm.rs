//! Processes that do anything at all until they are killed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::Child;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::{MemfdFlags, memfd_create};
use tailpin_arena::shared::{
    OwnerId, RecoverError, Recovered, SharedArena, SharedBlock, SharedError, SharedSlice, Token,
};

use super::{MIB, PAGE, open, order, path_of, start};

/// Tokens for all to see: each record is a token, the byte that fills the slice, and a check
/// against torn writes.
struct Board(File);

const RECORD: usize = 32;
const RECORDS: u64 = 64;

impl Board {
    fn put(&self, at: u64, token: Token, fill: u8) {
        let mut record = [0; RECORD];
        record[..24].copy_from_slice(&token.to_bytes());
        record[24] = fill;
        let check = record.iter().fold(1u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        record[28..].copy_from_slice(&check.to_le_bytes());
        self.0.write_all_at(&record, at % RECORDS * RECORD as u64).unwrap();
    }

    fn get(&self, at: u64) -> Option<(Token, u8)> {
        let mut record = [0; RECORD];
        self.0.read_exact_at(&mut record, at % RECORDS * RECORD as u64).ok()?;
        let check = u32::from_le_bytes(record[28..].try_into().unwrap());
        record[28..].fill(0);
        let sum = record.iter().fold(1u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        (sum == check).then(|| (Token::from_bytes(record[..24].try_into().unwrap()), record[24]))
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(super) fn work(arena: &SharedArena) {
    let board = Board(open(&std::env::var("SHARED_BOARD").unwrap()).into());
    let mut random = Random(std::env::var("SHARED_SEED").unwrap().parse().unwrap());
    println!("answer: at work");
    let (mut blocks, mut slices): (Vec<(SharedBlock, u8)>, Vec<SharedSlice>) = Default::default();
    loop {
        if blocks.len() > 6 || random.below(12) == 0 && !blocks.is_empty() {
            blocks.swap_remove(random.below(blocks.len() as u64) as usize);
        }
        if slices.len() > 40 || random.below(3) == 0 && !slices.is_empty() {
            slices.swap_remove(random.below(slices.len() as u64) as usize);
        }
        let some = blocks.len().checked_sub(1).map(|last| random.below(last as u64 + 1) as usize);
        match (random.below(12), some) {
            (0 | 1, _) | (_, None) => {
                let pages = if random.below(8) == 0 { 512 } else { random.below(64) + 1 };
                let fill = random.below(256) as u8;
                match arena.alloc(pages as usize * PAGE - random.below(4000) as usize) {
                    Ok(mut buffer) => {
                        buffer.fill(fill);
                        blocks.push((buffer.freeze(), fill));
                    }
                    Err(SharedError::Exhausted { .. }) => slices.clear(),
                    Err(other) => panic!("{other}"),
                }
            }
            (2 | 3, Some(i)) => {
                let (block, fill) = &blocks[i];
                let from = random.below(block.len() as u64) as usize;
                let to = (from + 1 + random.below(20_000) as usize).min(block.len());
                let slice = block.slice(from..to).unwrap();
                board.put(random.below(RECORDS), slice.token(), *fill);
                slices.push(slice);
            }
            (4..=6, _) => {
                if let Some((token, fill)) = board.get(random.below(RECORDS)) {
                    match arena.adopt(token) {
                        Ok(slice) => {
                            assert!(slice.iter().all(|byte| *byte == fill), "what the other one wrote");
                            slices.push(slice);
                        }
                        Err(SharedError::Stale) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            (7 | 8, Some(i)) => blocks[i].0.split_to(order(random.below(9) as u8)).unwrap(),
            (9, Some(i)) => match blocks[i].0.merge() {
                Ok(()) | Err(SharedError::Merge(_)) => {}
                Err(other) => panic!("{other}"),
            },
            (10, Some(i)) => blocks.push((blocks[i].0.try_clone().unwrap(), blocks[i].1)),
            _ => {
                if random.below(20) == 0 {
                    arena.recover_dead();
                }
            }
        }
    }
}

/// Recovers a process that was killed, or waits until another process has.
fn recover(arena: &SharedArena, owner: OwnerId) -> Option<Recovered> {
    let since = Instant::now();
    loop {
        match arena.recover(owner) {
            Ok(recovered) => return Some(recovered),
            Err(RecoverError::Gone(_)) => return None,
            // It takes the system a moment to end it; the other recoverer may be killed, but not by
            // us, not now.
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{owner} is not recovered");
    }
}

/// Some processes on one arena, and what became of those that were killed.
struct Storm {
    arena: SharedArena,
    board: Board,
    random: Random,
    total: Recovered,
    kills: u64,
}

impl Storm {
    /// `TAILPIN_SEED` is where the random numbers begin, else the clock. What processes do is the
    /// same again with the same number; when each is killed the machine has a say in, too.
    fn new() -> Self {
        let seed = std::env::var("TAILPIN_SEED")
            .map_or_else(|_| UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64, |seed| seed.parse().unwrap());
        println!("TAILPIN_SEED={seed}");
        Self {
            arena: SharedArena::create(16 * MIB, 6).unwrap(),
            board: Board(memfd_create("board", MemfdFlags::CLOEXEC).unwrap().into()),
            random: Random(seed.max(1)),
            total: Recovered::default(),
            kills: 0,
        }
    }

    /// `TAILPIN_STORM` makes it so many times as long.
    fn times() -> u64 {
        std::env::var("TAILPIN_STORM").map_or(1, |times| times.parse().unwrap())
    }

    fn begin(&mut self, role: &str) -> Child {
        let seed = self.random.below(u64::MAX).max(1).to_string();
        let more = [("SHARED_BOARD", path_of(&self.board.0)), ("SHARED_SEED", seed)];
        let mut child = start(role, &self.arena, &more);
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("answer: ") {
            line.clear();
            assert!(answers.read_line(&mut line).unwrap() > 0, "a process has ended");
        }
        child
    }

    fn kill(&mut self, child: &mut Child) -> OwnerId {
        assert!(child.try_wait().unwrap().is_none(), "a process has ended unasked: see above");
        let owner = self.arena.owners().into_iter().find(|owner| owner.pid() == child.id()).unwrap();
        child.kill().unwrap();
        self.kills += 1;
        if self.random.below(2) == 0 {
            child.wait().unwrap(); // Else it is recovered while the system still knows of it.
        }
        owner
    }

    /// Recovers a process that was killed; false if another process has.
    fn recover(&mut self, owner: OwnerId, child: &mut Child) -> bool {
        let recovered = recover(&self.arena, owner);
        if let Some(one) = recovered {
            assert_eq!(one.ambiguous, 0);
            self.total.pins += one.pins;
            self.total.blocks += one.blocks;
            self.total.finished += one.finished;
        }
        child.wait().unwrap();
        recovered.is_some()
    }

    /// When all others are dead.
    fn check(&self) {
        // Whom one of them was recovering when it was killed itself.
        while let [_, ..] = self.arena.recover_dead()[..] {}
        let (audit, kills) = (self.arena.audit(), self.kills);
        assert_eq!(audit.violations(), 0, "after {kills} kills: {audit}");
        assert_eq!((audit.free, audit.pinned), (audit.frames, 0), "after {kills} kills: {audit}");
        assert_eq!(self.arena.owners(), [self.arena.me()]);
    }
}

#[test]
fn processes_killed_at_random_moments() {
    const WORKERS: u64 = 3;
    let mut storm = Storm::new();
    for _ in 0..3 * Storm::times() {
        // One after the other, while the rest go on; at last all of them.
        let mut workers: Vec<Child> = (0..WORKERS).map(|_| storm.begin("work")).collect();
        for _ in 0..12 {
            std::thread::sleep(Duration::from_micros(storm.random.below(8_000)));
            let mut victim = workers.swap_remove(storm.random.below(WORKERS) as usize);
            let owner = storm.kill(&mut victim);
            storm.recover(owner, &mut victim);
            workers.push(storm.begin("work"));
        }
        for mut child in workers {
            let owner = storm.kill(&mut child);
            storm.recover(owner, &mut child);
        }
        storm.check();
    }
    let (kills, total) = (storm.kills, storm.total);
    println!("{kills} kills: {total:?}");
    assert!(total.pins > 0 && total.blocks > 0, "{total:?}");
    assert!(total.finished > 0, "some were killed in the middle of an operation: {total:?}");
}

/// Recovers all that die, until it is killed.
pub(super) fn inherit(arena: &SharedArena) {
    println!("answer: waiting");
    loop {
        arena.recover_dead();
    }
}

#[test]
fn recoverers_killed_in_the_middle_of_it() {
    let mut storm = Storm::new();
    let mut cut_short = 0;
    for _ in 0..6 * Storm::times() {
        let mut worker = storm.begin("work");
        let mut heirs = [storm.begin("inherit"), storm.begin("inherit")];
        std::thread::sleep(Duration::from_micros(2_000 + storm.random.below(4_000)));
        let dead = storm.kill(&mut worker);
        let mut owners = Vec::new();
        for heir in &mut heirs {
            std::thread::sleep(Duration::from_micros(storm.random.below(100)));
            owners.push(storm.kill(heir));
        }
        cut_short += u32::from(storm.recover(dead, &mut worker));
        for (owner, heir) in owners.into_iter().zip(&mut heirs) {
            storm.recover(owner, heir);
        }
        storm.check();
    }
    println!("{} kills, {cut_short} recoveries cut short or not begun", storm.kills);
}
