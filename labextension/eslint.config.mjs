import js from "@eslint/js";
import jupyter from "@jupyter/eslint-plugin";
import globals from "globals";
import ts from "typescript-eslint";

// Text of the agent is hostile until proven otherwise: the page is built from nodes, never from markup.
const markup = ["innerHTML", "outerHTML", "srcdoc"].map((name) => ({
  selector: `AssignmentExpression > MemberExpression.left[property.name="${name}"]`,
  message: `${name} parses markup: build DOM nodes instead.`,
}));
const calls = ["insertAdjacentHTML", "createContextualFragment", "setHTMLUnsafe", "write", "writeln"].map(
  (name) => ({
    selector: `CallExpression[callee.property.name="${name}"]`,
    message: `${name} parses markup: build DOM nodes instead.`,
  }),
);

const rules = {
  curly: ["error", "multi-line"],
  eqeqeq: "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
  "no-restricted-syntax": ["error", ...markup, ...calls],
  "no-script-url": "error",
  "no-shadow": "error",
  "no-var": "error",
  "prefer-const": "error",
};

export default [
  {
    ignores: [
      "**/node_modules/**",
      "**/.venv/**",
      "**/.venvs/**",
      "labextension/lib/**",
      "labextension/dist/**",
      "labextension/build/**",
    ],
  },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: { ...rules, "no-unused-vars": "error" },
  },
  { files: ["labextension/scripts/*.mjs"], languageOptions: { globals: globals.node } },
  ...ts.configs.recommended.map((config) => ({ ...config, files: ["**/*.ts"] })),
  ...jupyter.configs.recommended.map((config) => ({
    ...config,
    files: config.files.map((pattern) => `labextension/${pattern}`),
    plugins: { jupyter },
  })),
  {
    files: ["**/*.ts"],
    rules: {
      "no-unused-vars": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/no-non-null-assertion": "off",
      "no-undef": "off", // tsc knows better
      "jupyter/prefer-lazy-imports": "off", // 60 kB, and activation needs nearly all of it
    },
  },
  { files: ["labextension/tests/**"], rules: { "jupyter/no-untranslated-string": "off" } },
];
