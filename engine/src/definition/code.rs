//! The stable codes of authoring problems. Each has a page `docs/errors/CODE.md` and a file in the corpus.

use serde::{Serialize, Serializer};

/// A stable code of an authoring problem, such as `DAG0101`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

impl Code {
    /// Wraps a code that another module of the engine defines (templates, timetables).
    #[must_use]
    pub const fn new(code: &'static str) -> Self {
        Self(code)
    }

    /// Returns the code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)+) => {
        impl Code {
            $(#[doc = $title] pub const $name: Self = Self($code);)+

            /// Every code that this module defines, with its title, in order.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $title),)+];
        }
    };
}

codes! {
    NOT_UTF8 = "DAG0001", "the file is not UTF-8";
    FILE_TOO_LARGE = "DAG0002", "the file is larger than 1 MiB";
    SYNTAX = "DAG0003", "the file is not valid TOML";
    TOO_DEEP = "DAG0004", "nested deeper than 32 levels";
    DUPLICATE_KEY = "DAG0005", "a key or table is defined twice";
    NOT_A_TABLE = "DAG0006", "a value is used as if it were a table";
    MERGE_CONFLICT = "DAG0007", "a merge conflict is left in the file";
    INTEGER_OVERFLOW = "DAG0008", "a number does not fit into 64 bits";
    TOO_MANY_TASKS = "DAG0009", "more than 10 000 tasks";
    MORE_PROBLEMS = "DAG0010", "more problems than are shown";
    TOO_MANY_EDGES = "DAG0011", "groups stand for too many dependencies";
    UNKNOWN_KEY = "DAG0101", "unknown key";
    MISPLACED_KEY = "DAG0102", "a key stands in the wrong table";
    NOT_BUILT_KEY = "DAG0103", "the feature of this key is not built yet";
    MISSING_KEY = "DAG0104", "a required key is missing";
    WRONG_TYPE = "DAG0105", "a value has the wrong type";
    NUMBER_RANGE = "DAG0106", "a number is out of range";
    UNKNOWN_WORD = "DAG0107", "a value is not one of the known words";
    BAD_DURATION = "DAG0108", "a text is not a duration";
    DURATION_RANGE = "DAG0109", "a duration is out of range";
    BAD_DATE = "DAG0110", "a value is not a date";
    BAD_NAME = "DAG0111", "a name has characters that are not allowed";
    EMPTY_VALUE = "DAG0112", "a value must not be empty";
    DUPLICATE_ELEMENT = "DAG0113", "a list names something twice";
    CONTROL_CHARACTER = "DAG0114", "a text has a character that is not allowed";
    BAD_ENV_NAME = "DAG0115", "not the name of an environment variable";
    RESERVED_ENV_NAME = "DAG0116", "an environment variable that the product sets itself";
    NOT_IN_DEFAULT_ARGS = "DAG0117", "a key cannot stand in default_args";
    UNKNOWN_TIMEZONE = "DAG0201", "unknown time zone";
    END_BEFORE_START = "DAG0202", "end_date is before start_date";
    CATCHUP_WITHOUT_START = "DAG0203", "catchup has no start_date to catch up from";
    SCHEDULE_TABLE = "DAG0204", "a schedule table needs exactly one kind of schedule";
    NO_INTERVAL = "DAG0205", "this schedule has no data interval";
    FIELD_COUNT = "DAG0206", "a cron expression has five or six fields";
    LOCAL_TIME_GAP = "DAG0207", "a local time that the time zone passes over";
    CRON_FIELD = "DAG0208", "a field of a cron expression cannot be read";
    UNKNOWN_PRESET = "DAG0209", "unknown preset";
    NOT_IN_LIST = "DAG0210", "a schedule that stands alone is in a list";
    NEVER_FIRES = "DAG0211", "a schedule that never fires";
    BAD_ASSET = "DAG0220", "a text is not the name of an asset";
    ASSET_CIRCLE = "DAG0221", "a DAG runs because of its own runs";
    ASSET_WITHOUT_SOURCE = "DAG0222", "no task updates an asset that a DAG waits for";
    ANY_WITHOUT_CHOICE = "DAG0223", "`any` has nothing to choose from";
    NO_DATES = "DAG0224", "a key about dates has no effect without them";
    BAD_PARAM_NAME = "DAG0301", "a parameter name that templates cannot use";
    KEYWORD_FOR_OTHER_TYPE = "DAG0302", "a schema keyword that does not apply to the type";
    DEFAULT_BREAKS_SCHEMA = "DAG0303", "a default that its own schema refuses";
    CONTRADICTORY_BOUNDS = "DAG0304", "bounds that no value satisfies";
    PARAM_WITHOUT_DEFAULT = "DAG0305", "a scheduled DAG has a parameter without a default";
    ENUM_BREAKS_SCHEMA = "DAG0306", "an enum value that its own schema refuses";
    BAD_PATTERN = "DAG0307", "a pattern that cannot be used";
    DUPLICATE_TASK = "DAG0401", "two tasks have the same id";
    UNKNOWN_TASK = "DAG0402", "no task has this id";
    SELF_DEPENDENCY = "DAG0403", "a task depends on itself";
    DUPLICATE_DEPENDENCY = "DAG0404", "a dependency is named twice";
    CYCLE = "DAG0405", "the tasks depend on each other in a circle";
    NO_TASKS = "DAG0406", "the DAG has no tasks";
    UNKNOWN_OPERATOR = "DAG0407", "unknown operator";
    NOT_BUILT_OPERATOR = "DAG0408", "this operator is not built yet";
    OTHER_OPERATOR_KEY = "DAG0409", "a key of another operator";
    DELAY_ABOVE_CAP = "DAG0410", "retry_delay is longer than max_retry_delay";
    EXIT_CODE_TWICE = "DAG0411", "an exit code both skips and fails";
    NO_EFFECT = "DAG0412", "a key has no effect here";
    TIMEOUT_ABOVE_RUN = "DAG0413", "a task may take longer than its run";
    UNKNOWN_GROUP = "DAG0414", "no task is in this group";
    SETUP_TEARDOWN = "DAG0415", "a setup and a teardown that do not fit together";
    MAP_OF_TEXT = "DAG0420", "a map that is a plain text";
    EMPTY_MAP = "DAG0421", "a map without elements";
    MAP_TOO_LONG = "DAG0422", "a map with more elements than max_map_length";
    NOT_MAPPABLE = "DAG0423", "this operator cannot be mapped";
    PYTHON_TARGET = "DAG0430", "a python task needs a script or a callable";
    PYTHON_CALLABLE = "DAG0431", "a callable is a file and a function";
    PYTHON_ARGUMENT = "DAG0432", "not the name of a Python argument";
    HTTP_TARGET = "DAG0480", "an http task needs a URL that can be called";
    BAD_HEADER = "DAG0481", "a header that cannot be given";
    BAD_STATUS = "DAG0482", "neither a status nor a range of them";
    SQL_DATABASE = "DAG0483", "a sql task needs one database";
    SQL_SOURCE = "DAG0484", "a sql task needs its statements once";
    SQL_TEMPLATE = "DAG0485", "a template in a SQL statement";
    SQL_PARAMETER = "DAG0486", "the parameters of a statement do not fit it";
    POKE_ABOVE_CAP = "DAG0450", "poke_interval is longer than max_poke_interval";
    SINGLE_POKE = "DAG0451", "a sensor that gives up before its second poke";
    DEADLINE_TABLE = "DAG0452", "a deadline needs exactly one of within and usual";
    DEADLINE_NEVER = "DAG0453", "a deadline that makes no run late";
    TIME_SENSOR = "DAG0460", "a time_sensor needs exactly one of until and delay";
    BAD_MOMENT = "DAG0461", "neither a time of day nor a date";
    WHICH_RUN = "DAG0462", "a dag_run_sensor says in two ways which run it waits for";
    JOIN_BELOW_BRANCH = "DAG0501", "a join below a branch would be skipped";
    RULE_ON_ROOT = "DAG0502", "a trigger rule on a task without upstreams";
    RULE_NEVER_HOLDS = "DAG0503", "a trigger rule that can never hold";
    NEVER_CHOSEN = "DAG0504", "a task that its branch never chooses";
    NOT_A_DOWNSTREAM = "DAG0505", "a branch names a task that is not directly below it";
    BRANCH_WITHOUT_DOWNSTREAM = "DAG0506", "a branch or a gate has nothing below it";
    UNREACHABLE_ARM = "DAG0507", "an arm of a branch is never reached";
    MISSING_SCRIPT = "DAG0510", "a task executes a file that is not there";
    CATCHUP_OF_MANY = "DAG0511", "catch-up creates very many runs";
    NEVER_RUNS = "DAG0512", "a task that can never run";
    NO_DATE_LEFT = "DAG0513", "a schedule that has no date, or none any more";
    PLAIN_SECRET = "DAG0514", "a secret in plain text";
    NOT_ON_SERVER = "DAG0515", "a variable, a connection or a pool that the server does not have";
    TEST_AND_SIZE = "DAG0601", "feature = \"all\" needs a test and a size";
    THRESHOLD_WITHOUT_METRIC = "DAG0602", "a threshold of a metric that is not measured";
    COLUMN_TWICE = "DAG0603", "a column is given two roles";
    COLUMN_NOT_COMPARED = "DAG0604", "the rule names a column that is not compared";
    NEVER_DRIFTS = "DAG0605", "no test and no size: nothing can ever drift";
    BAD_WEBHOOK = "DAG0801", "not the address of a webhook";
    CODE_FOR_SHELL = "DAG0723", "a template in the code that an array command gives to a shell";
    WEBHOOK_SECRET = "DAG0803", "a password stands in the address of a webhook";
}
