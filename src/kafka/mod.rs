//! Kafka administration and reading: the only place in the control plane that uses rdkafka.

pub mod read;
