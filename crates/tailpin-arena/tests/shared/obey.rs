//! Orders to another process, one a line, each answered by one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use tailpin_arena::shared::{SharedArena, SharedBlock, SharedSlice, Token};

use super::{order, start};

pub(super) struct Other {
    pub(super) child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    pub(super) fn start(arena: &SharedArena) -> Self {
        let mut child = start("obey", arena, &[]);
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, orders, answers }
    }

    pub(super) fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "{order}: the other process has ended");
            if let Some((_, answer)) = line.trim_end().split_once("answer: ") {
                return answer.to_string();
            }
        }
    }

    pub(super) fn quit(mut self) {
        drop(self.orders);
        assert!(self.child.wait().unwrap().success());
    }

    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(super) fn hex(token: Token) -> String {
    token.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn token(hex: &str) -> Token {
    let mut bytes = [0; 24];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    }
    Token::from_bytes(bytes)
}

pub(super) fn obey(arena: &SharedArena) {
    let (mut blocks, mut slices): (Vec<SharedBlock>, Vec<SharedSlice>) = Default::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        let answer = match words[0] {
            "alloc" => {
                let mut buffer = arena.alloc(number(1)).unwrap();
                buffer.fill(number(2) as u8);
                blocks.push(buffer.freeze());
                "done".into()
            }
            "slice" => {
                slices.push(blocks.last().unwrap().slice(number(1)..number(2)).unwrap());
                hex(slices.last().unwrap().token())
            }
            "adopt" => match arena.adopt(token(words[1])) {
                Ok(slice) => {
                    slices.push(slice);
                    "done".into()
                }
                Err(error) => format!("{error:?}"),
            },
            "read" => {
                let slice = slices.last().unwrap();
                assert!(slice.iter().all(|byte| *byte == slice[0]));
                format!("{} times {}, order {}", slice.len(), slice[0], slice.block().1)
            }
            "split" => format!("{:?}", blocks.last().unwrap().split_to(order(number(1) as u8))),
            "merge" => format!("{:?}", blocks.last_mut().unwrap().merge()),
            "clone" => {
                blocks.push(blocks.last().unwrap().try_clone().unwrap());
                slices.push(slices.last().unwrap().try_clone().unwrap());
                "done".into()
            }
            "drop" => {
                (blocks, slices) = Default::default();
                "done".into()
            }
            other => panic!("no such order: {other}"),
        };
        println!("answer: {answer}");
    }
}
