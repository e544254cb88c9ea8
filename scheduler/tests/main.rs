//! The scheduler as its callers see it: a handle, a folder of DAG files, a store and a clock driven by hand.

/// Runs each test over the store in memory, over SQLite and over PostgreSQL.
macro_rules! over_both_stores {
    ($($name:ident,)+) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::world::World::in_memory()).await;
            })+
        }

        mod in_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::world::World::in_sqlite().await).await;
            })+
        }

        mod in_postgresql {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::world::World::in_postgresql().await).await;
            })+
        }
    };
}

#[cfg(test)]
mod assets;
#[cfg(test)]
mod backfill;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod leaders;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod outside;
#[cfg(test)]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod world;
#[cfg(test)]
mod writer;
