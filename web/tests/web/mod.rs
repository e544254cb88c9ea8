mod access;
mod corpora;
mod logs;
mod pages;
mod rest;
pub mod support;
