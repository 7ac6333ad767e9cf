//! Streams: the rows.

mod add;
mod claim;
mod counted;
mod group;
mod info;
mod parts;
mod pending;
mod range;
mod read;

use super::docs;
use crate::command::row::{LF, R, RF, Row, W, WF, WM, WMF, cmd, sub};
use crate::command::spec::{Flags, keys};

/// Nothing is said of a container.
const NONE: Flags = Flags(0);

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "xack",
        -4,
        WF,
        keys::UPDATE,
        "stream",
        pending::xack,
        "Entries are done: they are pending no more.",
    ),
    cmd(
        "xadd",
        -5,
        WMF,
        keys::UPDATE,
        "stream",
        add::xadd,
        "Adds an entry.",
    ),
    cmd(
        "xautoclaim",
        -6,
        WF,
        keys::REMOVE,
        "stream",
        claim::xautoclaim,
        "Takes over entries that have been pending for long, page by page.",
    ),
    cmd(
        "xclaim",
        -6,
        WF,
        keys::UPDATE,
        "stream",
        claim::xclaim,
        "Takes over entries that are pending.",
    ),
    cmd(
        "xdel",
        -3,
        WF,
        keys::REMOVE,
        "stream",
        add::xdel,
        "Removes entries.",
    ),
    cmd(
        "xgroup",
        -2,
        NONE,
        &[],
        "stream",
        docs::help,
        "The groups of a stream.",
    ),
    sub("xgroup", "create", -5, WM, group::create, "Makes a group.")
        .on(keys::SECOND_INSERT)
        .of("stream"),
    sub(
        "xgroup",
        "createconsumer",
        5,
        WM,
        group::create_consumer,
        "Makes a consumer of a group.",
    )
    .on(keys::SECOND_INSERT)
    .of("stream"),
    sub(
        "xgroup",
        "delconsumer",
        5,
        W,
        group::del_consumer,
        "Removes a consumer of a group, and what was pending of it.",
    )
    .on(keys::SECOND_REMOVE)
    .of("stream"),
    sub(
        "xgroup",
        "destroy",
        4,
        W,
        group::destroy,
        "Removes a group.",
    )
    .on(keys::SECOND_REMOVE)
    .of("stream"),
    sub("xgroup", "help", 2, LF, docs::help, "This text.").of("stream"),
    sub(
        "xgroup",
        "setid",
        -5,
        W,
        group::set_id,
        "Has a group go on behind another entry.",
    )
    .on(keys::SECOND_UPDATE)
    .of("stream"),
    cmd(
        "xinfo",
        -2,
        NONE,
        &[],
        "stream",
        docs::help,
        "What there is of a stream.",
    ),
    sub(
        "xinfo",
        "consumers",
        4,
        R,
        info::consumers,
        "The consumers of a group.",
    )
    .on(keys::SECOND_READ)
    .of("stream"),
    sub(
        "xinfo",
        "groups",
        3,
        R,
        info::groups,
        "The groups of a stream.",
    )
    .on(keys::SECOND_READ)
    .of("stream"),
    sub("xinfo", "help", 2, LF, docs::help, "This text.").of("stream"),
    sub("xinfo", "stream", -3, R, info::stream, "What a stream is.")
        .on(keys::SECOND_READ)
        .of("stream"),
    cmd(
        "xlen",
        2,
        RF,
        keys::META,
        "stream",
        range::xlen,
        "How many entries there are.",
    ),
    cmd(
        "xpending",
        -3,
        R,
        keys::READ,
        "stream",
        pending::xpending,
        "What is pending of a group.",
    ),
    cmd(
        "xrange",
        -4,
        R,
        keys::READ,
        "stream",
        range::xrange,
        "The entries in a range of ids.",
    ),
    cmd(
        "xread",
        -4,
        R,
        keys::STREAMS,
        "stream",
        read::xread,
        "The entries behind ids, waiting for some.",
    )
    .waits_by_option(),
    cmd(
        "xreadgroup",
        -7,
        W,
        keys::STREAMS_OF_GROUP,
        "stream",
        read::xreadgroup,
        "The entries that a group has not got, for one of its consumers, waiting for some.",
    )
    .waits_by_option(),
    cmd(
        "xrevrange",
        -4,
        R,
        keys::READ,
        "stream",
        range::xrevrange,
        "The entries in a range of ids, the last first.",
    ),
    cmd(
        "xsetid",
        -3,
        WMF,
        keys::UPDATE,
        "stream",
        add::xsetid,
        "Says which id was the last.",
    ),
    cmd(
        "xtrim",
        -4,
        W,
        keys::REMOVE,
        "stream",
        add::xtrim,
        "Removes the first entries.",
    ),
];
