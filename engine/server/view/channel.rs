//! What a listener of a channel hears, and the tokens to listen with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::RunId;
use crate::exec::Heard;

use super::schema::IdText;
use super::{Raw, Time, raw};

/// One event of a channel; `type` is also the name of the server-sent event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChannelView {
    /// A step has published this.
    Message {
        /// The channel.
        channel: String,
        /// Its topic, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// What was published: any JSON.
        #[schemars(with = "serde_json::Value")]
        data: Raw,
        /// The run that published it.
        #[schemars(with = "IdText")]
        run: RunId,
        /// When.
        at: Time,
    },
    /// The client read too slowly: so many messages for it are gone.
    Missed {
        /// How many.
        missed: u64,
    },
}

impl ChannelView {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            ChannelView::Message { .. } => "message",
            ChannelView::Missed { .. } => "missed",
        }
    }

    /// The view of what a listener has heard.
    pub fn of(heard: &Heard) -> ChannelView {
        match heard {
            Heard::Message(message) => ChannelView::Message {
                channel: message.channel.to_string(),
                topic: message.topic.as_deref().map(str::to_owned),
                data: raw(&message.data),
                run: message.run,
                at: Time(message.at),
            },
            Heard::Missed(missed) => ChannelView::Missed { missed: *missed },
        }
    }
}

/// What a token of a channel is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelTokenBody {
    /// How long it is to last: a duration such as `30s`, at most `1d`; `10m` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// A token that listens to one channel, as `token` in the query of its route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelTokenView {
    /// The channel.
    pub channel: String,
    /// The token.
    pub token: String,
    /// When its time is over: a stream that has begun by then goes on.
    pub expires_at: Time,
}
