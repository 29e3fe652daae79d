//! Real Apache Kafka, etcd and our own binaries as processes on loopback.
