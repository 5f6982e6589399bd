// The scripts of a page, one after the other: npx eslint -c tests/lab/play/eslint.config.mjs FILE
const names = ["CSS", "atob", "document", "performance", "setTimeout"];
const globals = Object.fromEntries(names.map((name) => [name, "readonly"]));
const rules = [
  "consistent-return",
  "eqeqeq",
  "no-const-assign",
  "no-dupe-keys",
  "no-redeclare",
  "no-shadow",
  "no-undef",
  "no-unreachable",
  "no-unused-expressions",
  "no-unused-vars",
  "no-use-before-define",
  "no-var",
  "object-shorthand",
  "prefer-const",
];
const options = { "no-use-before-define": [{ functions: false }] };

export default [
  {
    languageOptions: { sourceType: "script", globals },
    rules: Object.fromEntries(rules.map((rule) => [rule, ["error", ...(options[rule] ?? [])]])),
  },
];
