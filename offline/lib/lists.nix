# Lists.
rec {
  inherit (builtins)
    all
    any
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    genList
    groupBy
    head
    length
    map
    partition
    sort
    tail
    ;

  singleton = x: [ x ];
  isList = builtins.isList;
  toList = x: if builtins.isList x then x else [ x ];
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: xs: if condition then xs else [ ];
  foldr =
    f: initial: xs:
    foldl' (acc: x: f x acc) initial (reverseList xs);
  fold = foldr;
  foldl = foldl';
  forEach = xs: f: map f xs;
  imap0 = f: xs: genList (n: f n (elemAt xs n)) (length xs);
  imap1 = f: xs: genList (n: f (n + 1) (elemAt xs n)) (length xs);
  flatten = x: if builtins.isList x then concatMap flatten x else [ x ];
  remove = x: filter (y: y != x);
  range = first: last: if first > last then [ ] else genList (n: first + n) (last - first + 1);
  replicate = n: x: genList (_: x) n;
  reverseList =
    xs:
    let
      n = length xs;
    in
    genList (i: elemAt xs (n - i - 1)) n;
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  allUnique = xs: length (unique xs) == length xs;
  last = xs: elemAt xs (length xs - 1);
  init = xs: take (length xs - 1) xs;
  take = count: sublist 0 count;
  drop = count: xs: sublist count (length xs) xs;
  sublist =
    start: count: xs:
    let
      n = length xs;
      available = if start >= n then 0 else n - start;
    in
    genList (i: elemAt xs (start + i)) (if count < available then count else available);
  count = predicate: foldl' (n: x: if predicate x then n + 1 else n) 0;
  findFirst =
    predicate: default: xs:
    let
      found = filter predicate xs;
    in
    if found == [ ] then default else head found;
  subtractLists = without: filter (x: !elem x without);
  intersectLists = with': filter (x: elem x with');
  mutuallyExclusive = a: b: intersectLists a b == [ ];
  naturalSort = sort builtins.lessThan;
  sortOn = f: sort (a: b: f a < f b);
  zipListsWith =
    f: xs: ys:
    genList (n: f (elemAt xs n) (elemAt ys n)) (if length xs < length ys then length xs else length ys);
  zipLists = zipListsWith (fst: snd: { inherit fst snd; });
  crossLists = f: foldl' (fs: args: concatMap (g: map g args) fs) [ f ];
}
