//! Tests of the rooms through their doors, and of the program through its commands.

mod config;
mod house;
