//! The swarm of settings: each seed draws which features and faults its world has at all, and how often they come. A world
//! without most of them tells more about the few that it has.

use super::dice::Dice;

/// What a world may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    // In handlers.
    Sleeps,
    Branches,
    Loops,
    Helpers,
    /// Values that nobody can foresee: the time, random numbers.
    Tinies,
    /// Code between steps throws.
    Throws,
    /// `fail`
    Fails,
    /// Steps break.
    Breaks,
    /// Effects take their time ...
    SlowSteps,
    /// ... and are given less.
    Timeouts,
    Waits,
    /// Programs send events ...
    Sends,
    /// ... and everybody sends signals.
    Signals,
    Invokes,
    Parallels,
    /// Races of branches. What draws a world says which ones have them.
    Races,
    /// Races in branches, of a `parallel` or of another race.
    InnerRaces,
    // In the project and what is sent to it.
    Limits,
    SharedLimits,
    Idempotency,
    StartTimeouts,
    FinishTimeouts,
    Conditions,
    /// Several events in one request.
    Batches,
    Repeats,
    FutureEvents,
    Cancels,
    RateLimits,
    Throttles,
    Singletons,
    Priorities,
    Collects,
    CancelOns,
    Crons,
    Pauses,
    /// Runs that back off are tried again at once.
    RetryNows,
    // Faults.
    Deaths,
    Poison,
    SlowFlushes,
    FullDisk,
    /// The engine hears of a commit some time after it.
    LateAnswers,
    /// Timers go off late, or are forgotten until the clock looks again.
    LateWakes,
    /// Somebody sets the clock.
    ClockJumps,
    /// Other versions of handlers, at a restart or while runs are at work.
    Reloads,
    /// What is old is deleted.
    Retention,
}

/// Each feature with the percentages that it may come with. What these are percentages of, the place says that draws.
const RATES: [(Feature, &[u64]); 43] = [
    (Feature::Sleeps, &[10, 30]),
    (Feature::Branches, &[5, 15]),
    (Feature::Loops, &[5, 15]),
    (Feature::Helpers, &[10, 25]),
    (Feature::Tinies, &[5, 20]),
    (Feature::Throws, &[10, 30]),
    (Feature::Fails, &[1, 5]),
    (Feature::Breaks, &[20, 50]),
    (Feature::SlowSteps, &[20, 70]),
    (Feature::Timeouts, &[20, 60]),
    (Feature::Waits, &[10, 25]),
    (Feature::Sends, &[5, 15]),
    (Feature::Signals, &[5, 15]),
    (Feature::Invokes, &[5, 15]),
    (Feature::Parallels, &[10, 40]),
    (Feature::Limits, &[50, 100]),
    (Feature::SharedLimits, &[40, 100]),
    (Feature::Idempotency, &[20, 60]),
    (Feature::StartTimeouts, &[10, 40]),
    (Feature::FinishTimeouts, &[10, 40]),
    (Feature::Conditions, &[30, 60]),
    (Feature::Batches, &[20, 60]),
    (Feature::Repeats, &[25, 60]),
    (Feature::FutureEvents, &[15, 40]),
    (Feature::Cancels, &[30, 100]),
    (Feature::RateLimits, &[30, 60]),
    (Feature::Throttles, &[30, 60]),
    (Feature::Singletons, &[30, 60]),
    (Feature::Priorities, &[50, 100]),
    (Feature::Collects, &[30, 60]),
    (Feature::CancelOns, &[30, 60]),
    (Feature::Crons, &[30, 60]),
    (Feature::Pauses, &[30, 100]),
    (Feature::RetryNows, &[50, 100]),
    (Feature::Deaths, &[50, 100]),
    (Feature::Poison, &[10, 30]),
    (Feature::SlowFlushes, &[5, 20]),
    (Feature::FullDisk, &[2, 8]),
    (Feature::LateAnswers, &[10, 60]),
    (Feature::LateWakes, &[10, 60]),
    (Feature::ClockJumps, &[50, 100]),
    (Feature::Reloads, &[40, 100]),
    (Feature::Retention, &[50, 100]),
];

/// Of so many worlds in ten, each has a feature.
const SHARE: [(Feature, u64); 12] = [
    (Feature::RateLimits, 3),
    (Feature::Throttles, 3),
    (Feature::Singletons, 3),
    (Feature::Priorities, 3),
    (Feature::Collects, 3),
    (Feature::CancelOns, 3),
    (Feature::Crons, 2),
    (Feature::Pauses, 3),
    (Feature::Deaths, 9),
    (Feature::Retention, 2),
    (Feature::ClockJumps, 3),
    (Feature::Fails, 3),
];

/// The settings of one world.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// The features it has, with their rates in percent.
    pub rates: Vec<(Feature, u64)>,
    /// Statements of a handler's outermost block at most.
    pub length: i64,
    /// The longest usual sleep in seconds.
    pub sleep: i64,
}

impl Swarm {
    /// Draws the settings of a world.
    pub fn random(dice: &mut Dice) -> Swarm {
        let mut rates = Vec::new();
        for (feature, choice) in RATES {
            let share = SHARE.iter().find(|(of, _)| *of == feature).map_or(5, |(_, share)| *share);
            if dice.chance(share * 10) {
                rates.push((feature, *dice.pick(choice)));
            }
        }
        Swarm { rates, length: dice.between(2, 9), sleep: *dice.pick(&[5, 90, 3_600]) }
    }

    /// Whether the world has this feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.rate(feature) > 0
    }

    /// How often it comes, in percent; 0 where the world has it not.
    pub fn rate(&self, feature: Feature) -> u64 {
        self.rates.iter().find(|(of, _)| *of == feature).map_or(0, |(_, rate)| *rate)
    }

    /// Draws whether it comes now.
    pub fn meets(&self, feature: Feature, dice: &mut Dice) -> bool {
        self.has(feature) && dice.chance(self.rate(feature))
    }
}
