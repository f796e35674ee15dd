/**
 * What a database's catalog says about its schemas, object by object, in a stable order. Read for two purposes: to compare
 * a database before and after something happened to it, and to print the schema as it is committed (supabase/schema.sql).
 */
import type postgres from "postgres";

/** A table, view, sequence or function with what is true of it. */
export interface CatalogObject {
  /** `table public.token_usage`, `function eve.clock()`. */
  name: string;
  parts: CatalogPart[];
}

/** A column, a constraint, or the object itself (name ""). */
export interface CatalogPart {
  kind: "itself" | "column" | "constraint" | "index" | "trigger" | "policy";
  name: string;
  /** Each is one SQL clause, or a whole statement for an index, a trigger or a policy. */
  clauses: string[];
  comment: string | null;
}

/**
 * Everything in the given schemas, functions with their bodies only if asked to: as `digests`, in a fifth of the time, where two
 * catalogs are compared and nobody reads them.
 */
export async function readCatalog(
  sql: postgres.Sql,
  schemas: string[],
  options: { bodies?: boolean | "digests" } = {},
): Promise<CatalogObject[]> {
  const rows = await sql.begin(async (transaction) => {
    // Every name is printed with its schema.
    await transaction`set local search_path = ''`;
    return await transaction<(CatalogPart & { object: string })[]>`
      with rooms as (
        select oid, nspname from pg_catalog.pg_namespace where nspname = any (${schemas})
      ), relations as (
        select c.*, format('%s.%s', n.nspname, c.relname) as name,
          case c.relkind
            when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'c' then 'type' else 'table'
          end as word
        from pg_catalog.pg_class c
        join rooms n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
          -- The sequence of an identity column is told with its column.
          and not exists (
            select
            from pg_catalog.pg_depend i
            where i.classid = 'pg_catalog.pg_class'::regclass and i.objid = c.oid and i.deptype = 'i' and c.relkind = 'S'
          )
      ), parts as (
        select r.word || ' ' || r.name as object, 1 as place, 0 as number, 'itself' as kind, '' as name,
          array_remove(
            array[
              case when r.relkind in ('r', 'p') and r.relrowsecurity then 'row level security' end,
              case when r.relforcerowsecurity then 'force row level security' end,
              case when r.relkind = 'r' and r.relreplident <> 'd' then 'replica identity ' || r.relreplident::text end,
              'with (' || array_to_string(r.reloptions, ', ') || ')',
              case when r.relkind in ('v', 'm') then 'as ' || pg_get_viewdef(r.oid) end,
              (
                select format('as %s start %s increment %s cache %s', format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqcache)
                from pg_catalog.pg_sequence s
                where s.seqrelid = r.oid
              )
            ], null
          ) as clauses,
          case r.relkind when 'c' then obj_description(r.reltype, 'pg_type') else obj_description(r.oid, 'pg_class') end as comment
        from relations r
        union all
        select r.word || ' ' || r.name, 2, a.attnum, 'column', a.attname::text,
          array_remove(
            array[
              format_type(a.atttypid, a.atttypmod),
              case when a.attnotnull then 'not null' end,
              case
                when a.attgenerated <> '' then 'generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
                when a.attidentity <> '' then
                  'generated ' || case a.attidentity when 'a' then 'always' else 'by default' end || ' as identity' || coalesce(
                    (
                      select format(' (cache %s)', s.seqcache)
                      from pg_catalog.pg_sequence s
                      where s.seqrelid = pg_get_serial_sequence(r.name, a.attname)::regclass and s.seqcache <> 1
                    ), ''
                  )
                else 'default ' || pg_get_expr(d.adbin, d.adrelid)
              end
            ], null
          ),
          col_description(r.oid, a.attnum)
        from relations r
        join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        left join pg_catalog.pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
        where r.relkind in ('r', 'p', 'c')
        union all
        select r.word || ' ' || r.name, 3, 0, 'constraint', c.conname::text, array[pg_get_constraintdef(c.oid)],
          obj_description(c.oid, 'pg_constraint')
        from relations r
        join pg_catalog.pg_constraint c on c.conrelid = r.oid and c.contype <> 'n'
        union all
        select r.word || ' ' || r.name, 4, 0, 'index', i.indexrelid::regclass::text, array[pg_get_indexdef(i.indexrelid)],
          obj_description(i.indexrelid, 'pg_class')
        from relations r
        join pg_catalog.pg_index i on i.indrelid = r.oid
        where not exists (
          select
          from pg_catalog.pg_constraint c
          where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x')
        )
        union all
        select r.word || ' ' || r.name, 5, 0, 'trigger', t.tgname::text,
          array[pg_get_triggerdef(t.oid), case t.tgenabled when 'D' then 'disabled' when 'A' then 'always' when 'R' then 'replica' else 'enabled' end],
          null
        from relations r
        join pg_catalog.pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
        union all
        select r.word || ' ' || r.name, 6, 0, 'policy', p.policyname::text,
          array[
            format('create policy %I on %s as %s for %s to %s', p.policyname, r.name, lower(p.permissive), lower(p.cmd), array_to_string(p.roles, ', '))
              || coalesce(' using ' || p.qual, '') || coalesce(' with check ' || p.with_check, '')
          ],
          null
        from relations r
        join pg_catalog.pg_policies p on format('%s.%s', p.schemaname, p.tablename) = r.name
        union all
        select format('function %s.%s(%s)', n.nspname, p.proname, pg_get_function_arguments(p.oid)), 7, 0, 'itself', '',
          array_remove(
            array[
              'returns ' || pg_get_function_result(p.oid),
              'language ' || l.lanname,
              case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
              'security ' || case when p.prosecdef then 'definer' else 'invoker' end,
              case when p.proisstrict then 'strict' end,
              'set ' || array_to_string(p.proconfig, ' set '),
              case
                when ${!options.bodies} or p.prokind = 'a' then null
                when ${
      options.bodies === "digests"
    } then 'body with the digest ' || md5(pg_get_functiondef(p.oid))
                else pg_get_functiondef(p.oid)
              end
            ], null
          ),
          obj_description(p.oid, 'pg_proc')
        from pg_catalog.pg_proc p
        join rooms n on n.oid = p.pronamespace
        join pg_catalog.pg_language l on l.oid = p.prolang
      )
      select object, kind, name, clauses, comment
      from parts
      order by place = 7, object collate "C", place, number, name collate "C"
    `;
  });
  const objects: CatalogObject[] = [];
  for (const { object, ...part } of rows) {
    if (objects.at(-1)?.name !== object) objects.push({ name: object, parts: [] });
    objects.at(-1)!.parts.push(part);
  }
  return objects;
}

/** One line for everything that is true, so that two catalogs can be compared as sets. */
export function factsOf(catalog: CatalogObject[]): string[] {
  return catalog.flatMap((object) =>
    object.parts.flatMap((part) => {
      const subject = `${object.name} ${part.kind === "itself" ? "" : `${part.kind} ${part.name} `}`;
      return [
        `${subject}is there`,
        ...part.clauses.map((clause) => `${subject}${clause}`),
        ...(part.comment === null ? [] : [`${subject}comment ${part.comment}`]),
      ];
    })
  );
}

/** A part of the schema: what one migration makes. */
export interface Topic {
  /** The migration's name, without its number. */
  name: string;
  /** Names as in CatalogObject, of functions without their arguments. */
  makes: string[];
}

/** @param migrations the texts of the migrations in their order, by name */
export function topicsOf(migrations: readonly { name: string; text: string }[]): Topic[] {
  const made =
    /^ *create (?:or replace )?(table|view|sequence|type|function) (?:if not exists )?((?:eve|public)\.\w+)/gm;
  return migrations.map(({ name, text }) => ({
    name,
    makes: [...text.matchAll(made)].map(([, word, object]) => `${word} ${object}`),
  }));
}

/** The catalog as SQL to be read by people: complete, in the order of the topics. @throws Error if an object is of none */
export function asSql(catalog: CatalogObject[], topics: readonly Topic[]): string {
  const left = new Set(catalog);
  const parts = topics.flatMap(({ name, makes }) => {
    const objects = [...new Set(makes)].flatMap((made) =>
      catalog.filter((object) => object.name === made || object.name.startsWith(`${made}(`))
    ).filter((object) => left.delete(object));
    if (objects.length === 0) return [];
    return [`-- ${name} ${"-".repeat(116 - name.length)}\n`, ...objects.map(objectAsSql)];
  });
  if (left.size > 0) {
    throw new Error(
      `No migration makes ${[...left].map(({ name }) => name).join(", ")} in words that are understood`,
    );
  }
  return parts.join("\n");
}

function objectAsSql(object: CatalogObject): string {
  const itself = object.parts.find((part) => part.kind === "itself")!;
  const word = object.name.split(" ", 1)[0];
  if (word === "table") return tableAsSql(object, itself);
  if (word === "type") return typeAsSql(object, itself);
  if (word === "function") {
    const definition = itself.clauses.find((clause) => clause.startsWith("CREATE OR REPLACE FUNCTION"))!;
    return `${definition.trimEnd()};\n${commentAsSql(object.name.replace(/\(.*/s, ""), itself.comment)}`;
  }
  return `create ${object.name} ${itself.clauses.join(" ")};\n${commentAsSql(object.name, itself.comment)}`;
}

function typeAsSql(object: CatalogObject, itself: CatalogPart): string {
  const fields = object.parts.filter(({ kind }) => kind === "column");
  return `create ${object.name} as (\n${
    fields.map((field) => `  ${field.name} ${field.clauses.join(" ")}`).join(",\n")
  }\n);\n${commentAsSql(object.name, itself.comment)}`;
}

function tableAsSql(object: CatalogObject, itself: CatalogPart): string {
  const table = object.name.replace("table ", "");
  const of = (kind: CatalogPart["kind"]) => object.parts.filter((part) => part.kind === kind);
  const inside = [
    ...of("column").map((column) => `  ${column.name} ${column.clauses.join(" ")}`),
    ...of("constraint").map((constraint) => `  constraint ${constraint.name} ${constraint.clauses[0]}`),
  ];
  const options = itself.clauses.filter((clause) => clause.startsWith("with "));
  const settings = itself.clauses.filter((clause) => !clause.startsWith("with "));
  return [
    `create table ${table} (\n${inside.join(",\n")}\n)${options.map((clause) => ` ${clause}`).join("")};\n`,
    ...settings.map((clause) => `alter table ${table} enable ${clause};\n`),
    ...of("index").map((index) => `${index.clauses[0]};\n`),
    ...of("trigger").map((trigger) => `${trigger.clauses[0]}; -- ${trigger.clauses[1]}\n`),
    ...of("policy").map((policy) => `${policy.clauses[0]};\n`),
    commentAsSql(object.name, itself.comment),
    ...of("column").map((column) => commentAsSql(`column ${table}.${column.name}`, column.comment)),
  ].join("");
}

function commentAsSql(subject: string, comment: string | null): string {
  return comment === null ? "" : `comment on ${subject} is '${comment.replaceAll("'", "''")}';\n`;
}
