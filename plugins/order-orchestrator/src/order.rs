//! An order and its end, in the form of the wire contract.

use saga_plugin::{Timestamp, Uuid};
use serde::{Deserialize, Serialize};

/// The value of order-created. It is also the body of the answer to `POST /orders`, and the saga's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: Uuid,
    pub(crate) product_id: i32,
    pub(crate) order_qty: i32,
    pub(crate) timestamp: Timestamp,
    /// Why it was cancelled. Only the saga's data has it: the value is published before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// How an order ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Confirmed,
    Cancelled,
}

impl End {
    /// The end that a status stands for; none while the order is pending.
    pub(crate) fn of(status: &str) -> Option<Self> {
        [Self::Confirmed, Self::Cancelled].into_iter().find(|end| end.status() == status)
    }

    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Confirmed => "ORDER_CONFIRMED",
            Self::Cancelled => "ORDER_CANCELLED",
        }
    }

    /// The message of the notification.
    pub(crate) fn notification(self, order_id: Uuid) -> String {
        match self {
            Self::Confirmed => format!("OrderConfirmed:{order_id}"),
            Self::Cancelled => format!("OrderCancelled:{order_id}"),
        }
    }
}
