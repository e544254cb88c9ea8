mod access;
mod corpora;
mod logs;
mod pages;
mod rest;
mod support;
