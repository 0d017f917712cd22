//! `aesop stop`.

pub(super) use super::operate::Args;
use super::{Context, Exit, operate};
use crate::plan::Operation;

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    operate::run(args, cx, Operation::Stop, "stop").await
}
