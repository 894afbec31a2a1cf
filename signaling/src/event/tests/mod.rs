//! Delivery to real receivers.
