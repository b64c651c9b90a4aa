//! Random gadgets of the test vendor `shapes`: always valid, each from a seed.

use serde_json::{Map, Value, json};

/// A small generator of random numbers; the same seed gives the same gadgets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn often(&mut self) -> bool {
        self.below(3) > 0
    }

    fn one_of(&mut self, choices: &[Value]) -> Value {
        let at = self.below(choices.len() as u64) as usize;
        choices[at].clone()
    }

    fn some(&mut self, most: u64, mut item: impl FnMut(&mut Self, u64) -> Value) -> Vec<Value> {
        let count = self.below(most + 1);
        (0..count).map(|index| item(self, index)).collect()
    }
}

fn set(object: &mut Map<String, Value>, random: &mut Random, name: &str, value: Value) {
    if random.often() {
        object.insert(name.to_owned(), value);
    }
}

/// A gadget as a configuration has it; what is left out is null.
pub fn gadget(random: &mut Random, name: &str) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), name.into());
    let low = random.below(50);
    let plain = [
        ("note", random.one_of(&[json!(""), json!("ø"), json!("a note")])),
        ("mode", random.one_of(&[json!("auto"), json!("manual"), json!("off")])),
        ("low", json!(low)),
        ("high", json!(low + random.below(50))),
        ("amount", random.one_of(&[json!(1), json!(7), json!(2.5)])),
        (
            "ratio",
            random.one_of(&[json!(0), json!(0.1), json!(-3.75), json!(1e10), json!(123_456_789_012_u64)]),
        ),
        ("enabled", random.one_of(&[json!(true), json!(false)])),
        ("color", random.one_of(&[json!("red"), json!("green")])),
        ("mac", random.one_of(&[json!("aa:bb"), json!("AA:bb"), json!("CC:DD")])),
        ("tags", random.some(3, |random, _| random.one_of(&[json!("x"), json!("y"), json!("")])).into()),
        ("ports", random.some(4, |random, _| json!(1 + random.below(65_535))).into()),
        (
            "matrix",
            random.some(2, |random, _| random.some(2, |random, _| json!(random.below(9))).into()).into(),
        ),
        ("token", random.one_of(&[json!("t-1"), json!("t-2")])),
        ("old_way", json!("still")),
    ];
    for (name, value) in plain {
        set(&mut object, random, name, value);
    }
    let map = |random: &mut Random, value: fn(&mut Random) -> Value| {
        let keys = ["a", "b.c", "d e"];
        let count = random.below(4) as usize;
        keys[..count].iter().map(|key| ((*key).to_owned(), value(random))).collect::<Map<_, _>>()
    };
    let labels = map(random, |random| random.one_of(&[json!("v"), json!("")]));
    set(&mut object, random, "labels", labels.into());
    let weights = map(random, |random| json!(random.below(100)));
    set(&mut object, random, "weights", weights.into());
    let peers = map(random, peer);
    set(&mut object, random, "peers", peers.into());
    let routes = random.some(3, route);
    set(&mut object, random, "routes", routes.into());
    let bgp = bgp(random);
    set(&mut object, random, "bgp", bgp);
    let zone = random.one_of(&[json!({}), json!({"name": "b"}), json!({"name": "a", "rank": 2})]);
    set(&mut object, random, "zone", zone);
    let limits = random.one_of(&[json!({}), json!({"soft": 1}), json!({"soft": 2, "hard": 3})]);
    set(&mut object, random, "limits", limits);
    object.insert("rule".to_owned(), random.some(3, rule).into());
    if random.often() {
        object.insert("secret".to_owned(), json!("s3cret"));
        object.insert("secret_version".to_owned(), json!(random.below(3)));
    }
    Value::Object(object)
}

fn peer(random: &mut Random) -> Value {
    let mut object = Map::new();
    object.insert("host".to_owned(), random.one_of(&[json!("h1"), json!("h2")]));
    let port = json!(random.below(9));
    set(&mut object, random, "port", port);
    let tags = random.some(2, |_, index| json!(format!("t{index}")));
    set(&mut object, random, "tags", tags.into());
    object.into()
}

fn route(random: &mut Random, index: u64) -> Value {
    let mut object = Map::new();
    let prefixes = [json!(format!("10.{index}.0.0/16")), json!(format!("10.{index}.0.1/16"))];
    object.insert("prefix".to_owned(), random.one_of(&prefixes));
    let metric = json!(random.below(255));
    set(&mut object, random, "metric", metric);
    set(&mut object, random, "via", json!("wan1"));
    object.into()
}

fn bgp(random: &mut Random) -> Value {
    let mut object = Map::new();
    object.insert("asn".to_owned(), random.one_of(&[json!(65_001), json!(65_002)]));
    let hold_time = json!(3 + random.below(500));
    set(&mut object, random, "hold_time", hold_time);
    let neighbors = random.some(2, |random, _| {
        let mut object = Map::new();
        object.insert("address".to_owned(), random.one_of(&[json!("2001:DB8::0"), json!("192.0.2.7")]));
        let weight = json!(random.below(10));
        set(&mut object, random, "weight", weight);
        object.into()
    });
    set(&mut object, random, "neighbors", neighbors.into());
    if random.often() {
        object.insert("secret".to_owned(), json!("bgp-s3cret"));
        object.insert("secret_version".to_owned(), json!(random.below(2)));
    }
    object.into()
}

fn rule(random: &mut Random, _: u64) -> Value {
    let mut object = Map::new();
    object.insert("action".to_owned(), random.one_of(&[json!("allow"), json!("deny")]));
    let ports = random.some(2, |random, _| json!(random.below(100)));
    set(&mut object, random, "ports", ports.into());
    let matches = random.some(2, |random, _| {
        let mut object = Map::new();
        object.insert("source".to_owned(), json!("lan"));
        let log = random.one_of(&[json!(true), json!(false)]);
        set(&mut object, random, "log", log);
        object.into()
    });
    object.insert("match".to_owned(), matches.into());
    object.into()
}
