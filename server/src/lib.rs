//! The coordinator: takes schedules, makes jobs, keeps leases.
