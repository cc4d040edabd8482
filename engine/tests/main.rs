//! Tests of the rooms through their doors, and of the program through its commands.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does, at the line that went wrong")]

mod bench;
mod browser;
mod cli;
mod codes;
mod config;
mod disk;
mod docs;
mod durability;
mod engine;
mod examples;
mod house;
mod operate;
mod pages;
mod program;
mod project;
mod script;
mod server;
mod shipped;
mod simulation;
mod testing;
mod web;
