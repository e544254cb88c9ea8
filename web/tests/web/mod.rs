mod access;
mod corpora;
mod evidence;
mod logs;
mod pages;
mod rest;
mod support;
mod tabs;
